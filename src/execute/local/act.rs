//! Carries out one step on this machine.
//!
//! Order within a step is always: record, act. Every membership change reads the live list
//! first and refuses a step that was planned on an older one (safety 6).

use std::collections::BTreeSet;
use std::time::Duration;

use super::abort;
use super::process::{self, StartAs};
use super::{Local, LocalError};
use crate::cluster::{
    Disk, Exit, ExitKind, Founding, FoundingId, Member, MemberId, NodeName, Observed, Process,
    Role, Timestamp, Wanted,
};
use crate::execute::Outcome;
use crate::execute::change::{self, not_now};
use crate::plan::{RemoveReason, StartNode, Step, StopReason, next_step};
use crate::render::{self, InitialState, NodeConfig};

/// A node that was started this often in a row without a while of good running in between is
/// started less and less often, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Local {
    /// Dispatches a step.
    pub(super) async fn act(
        &mut self,
        wanted: &Wanted,
        seen: &Observed,
        step: &Step,
    ) -> Result<Outcome, LocalError> {
        if change::is_destructive(step) && self.plan_again(wanted).await? != *step {
            return Ok(not_now("the cluster has changed since this was planned"));
        }
        abort::before(step);
        let outcome = match step {
            Step::Found { nodes, founding: None } => self.found_anew(wanted, nodes).await,
            Step::Found { nodes, founding: Some(id) } => self.found(wanted, nodes, *id).await,
            Step::Start { nodes } => self.start(wanted, seen, nodes).await,
            Step::Stop { node, member, why } => self.stop(node, *member, *why).await,
            Step::MoveLeader { from, to } => {
                let leader = Self::endpoint_of(seen, *from);
                Ok(self.change().move_leader(leader, *from, *to).await)
            }
            Step::Remove { member, node, why } => {
                self.remove(seen, *member, node.as_ref(), *why).await
            }
            Step::AddLearner { node, peer_url } => {
                Ok(self.change().add_learner(node, peer_url).await)
            }
            Step::Promote { member, node } => self.promote(node, *member).await,
            Step::UpdatePeerUrls { member, peer_urls, .. } => {
                Ok(self.change().update_peer_urls(*member, peer_urls).await)
            }
            Step::ForgetNode { node, data_of } => self.forget(node, *data_of),
            Step::Done => return self.prune(wanted),
            Step::Wait { .. } | Step::Blocked { .. } => return Ok(Outcome::Done),
        }?;
        if outcome == Outcome::Done {
            abort::after(step);
        }
        Ok(outcome)
    }

    /// What would be planned now. A step that takes something away is carried out only if it is
    /// still the one to take: between observing and acting a member may have failed, and then
    /// the same stop or removal could cost the quorum (safety 6).
    async fn plan_again(&mut self, wanted: &Wanted) -> Result<Step, LocalError> {
        let fresh = self.read_world(wanted).await?;
        Ok(next_step(wanted, &fresh))
    }

    /// Decides on a founding, then starts it. Refused while any founding node may hold data.
    async fn found_anew(
        &mut self,
        wanted: &Wanted,
        nodes: &[NodeName],
    ) -> Result<Outcome, LocalError> {
        // A founding that broke off is begun anew less and less often.
        let now = self.clock.steady();
        if nodes.iter().any(|n| self.is_paused(n, now)) {
            return Ok(not_now("the founding before broke off a moment ago"));
        }
        // All or none: counted one by one, they would for ever wait for each other.
        for node in nodes {
            self.count_start(node, now);
        }
        let mut file = self.read_or_new(wanted)?;
        if file.record.founding.as_ref().is_some_and(|f| f.cluster.is_some()) {
            return Ok(not_now("this home belongs to a cluster that was founded before"));
        }
        // Every place where data of a former founding could lie, wanted or not.
        let places: BTreeSet<_> =
            self.home.nodes()?.into_iter().chain(wanted.nodes.keys().cloned()).collect();
        let mut locks = Vec::new();
        for name in &places {
            let home = self.home.node(name);
            home.create()?;
            let Some(lock) = home.try_lock()? else {
                return Ok(not_now(format!("{name} still runs")));
            };
            if home.disk() != Disk::Empty {
                return Ok(not_now(format!("{name} holds data")));
            }
            let recorded = file.record.founding.as_ref().map(|f| f.id);
            let stamp = home.stamp()?.filter(|_| !home.is_cut_short());
            if stamp.is_some_and(|s| s.founding.is_some() && s.founding == recorded) {
                // Written on leaving the barrier: the node may have served since.
                return Ok(not_now(format!("{name} was founded before, and its data is gone")));
            }
            locks.push(lock);
        }
        for (name, lock) in places.iter().zip(&locks) {
            // What stamp is left speaks of a start that nothing came of.
            self.home.node(name).clear_stamp(lock)?;
        }
        let founding = Founding {
            id: FoundingId(random()?),
            token: wanted.token.clone(),
            nodes: wanted.nodes.iter().map(|(n, w)| (n.clone(), w.peer_url.clone())).collect(),
            started: BTreeSet::new(),
            cluster: None,
        };
        let id = founding.id;
        file.record.founding = Some(founding);
        self.home.write(&file)?;
        drop(locks);
        self.found(wanted, nodes, id).await
    }

    /// Starts nodes of a founding for the first time; each is recorded before its start.
    async fn found(
        &mut self,
        wanted: &Wanted,
        nodes: &[NodeName],
        id: FoundingId,
    ) -> Result<Outcome, LocalError> {
        let mut file = self.read_or_new(wanted)?;
        for (count, name) in (1..).zip(nodes) {
            let Some(founding) = file.record.founding.as_mut().filter(|f| f.id == id) else {
                return Ok(not_now("the record holds another founding"));
            };
            // What has promised to take part and has not run may still do so.
            let may_again = self.home.node(name).promise()? == Some(id);
            if !founding.started.insert(name.clone()) && !may_again {
                return Ok(not_now(format!("{name} was started before")));
            }
            let founding = founding.clone();
            self.home.write(&file)?;
            let config = self.founding_config(wanted, &founding, name);
            self.launch(name, &config, StartAs { founding: Some(id), ..StartAs::default() })
                .await?;
            abort::found(count);
        }
        Ok(Outcome::Done)
    }

    /// The founding's own list, not the spec's: the spec may have changed since.
    fn founding_config(&self, wanted: &Wanted, founding: &Founding, name: &NodeName) -> NodeConfig {
        let mut config = self.config(wanted, &[], name);
        config.initial_cluster =
            founding.nodes.iter().map(|(n, url)| (n.0.clone(), url.clone())).collect();
        config.initial_cluster_state = InitialState::New;
        config.initial_cluster_token.clone_from(&founding.token);
        config
    }

    fn config(&self, wanted: &Wanted, members: &[Member], name: &NodeName) -> NodeConfig {
        let data = self.home.node(name).data();
        render::node_config(wanted, members, name, &data.to_string_lossy())
    }

    async fn start(
        &mut self,
        wanted: &Wanted,
        seen: &Observed,
        nodes: &[StartNode],
    ) -> Result<Outcome, LocalError> {
        let founding = seen.record.founding.as_ref().map(|f| f.id);
        let members = seen.members.known().map_or(&[][..], |list| &list.members);
        let mut outcome = not_now("these nodes were started a moment ago");
        for StartNode { node, member, replaces } in nodes {
            if self.pauses(node) {
                continue;
            }
            if let Some(refusal) = self.adopt(node, *member, members)? {
                outcome = refusal;
                continue;
            }
            let config = if wanted.nodes.contains_key(node) {
                let mut config = self.config(wanted, members, node);
                config.initial_cluster_state = InitialState::Existing;
                config
            } else {
                // A member whose node the spec no longer wants still counts until it is removed.
                self.last_config(node)?
            };
            let start = StartAs { founding, member: Some(*member), replaces: *replaces };
            if let Err(error) = self.launch(node, &config, start).await {
                // As a full disk: one node's trouble. It is tried again after a while.
                tracing::warn!(%node, %error, "a node could not be started");
                self.note_end(node, ExitKind::Unknown, Some(*member), error.to_string());
            }
            outcome = Outcome::Done;
        }
        Ok(outcome)
    }

    /// Writes down a voter that somebody added, before its first start: it may vote before it
    /// can say that it has run, and must then never start from an empty disk again.
    fn adopt(
        &self,
        node: &NodeName,
        member: MemberId,
        members: &[Member],
    ) -> Result<Option<Outcome>, LocalError> {
        let entry = members.iter().find(|m| m.id == member);
        if !entry.is_some_and(|m| m.role == Role::Voter && !m.is_started()) {
            return Ok(None);
        }
        let Some(mut file) = self.home.read()? else {
            return Ok(Some(not_now("cluster.json is gone; nothing is adopted without a record")));
        };
        if file.record.adopted.insert(member) {
            self.home.write(&file)?;
        } else if self.home.node(node).disk() == Disk::Empty {
            return Ok(Some(not_now(format!("{member} may have voted, and its data is gone"))));
        }
        Ok(None)
    }

    fn last_config(&self, node: &NodeName) -> Result<NodeConfig, LocalError> {
        let path = self.home.node(node).config_env();
        let text = std::fs::read_to_string(&path).map_err(super::home::io_error("read", &path))?;
        render::parse_env(&text).map_err(|source| LocalError::Config { path, source })
    }

    /// True while a node that keeps ending is given time; counts the start otherwise.
    fn pauses(&mut self, node: &NodeName) -> bool {
        let now = self.clock.steady();
        let is_paused = self.is_paused(node, now);
        if !is_paused {
            self.count_start(node, now);
        }
        is_paused
    }

    fn is_paused(&self, node: &NodeName, now: Timestamp) -> bool {
        let Some((count, at)) = self.starts.get(node).copied() else { return false };
        let pause = Duration::from_millis(125).saturating_mul(1 << count.min(7)).min(LONGEST_PAUSE);
        Duration::from_millis(now.since(at)) < pause
    }

    fn count_start(&mut self, node: &NodeName, now: Timestamp) {
        let (count, at) = self.starts.get(node).copied().unwrap_or_default();
        let is_long_ago = Duration::from_millis(now.since(at)) > LONGEST_PAUSE * 2;
        let count = if is_long_ago { 1 } else { count + 1 };
        self.starts.insert(node.clone(), (count, now));
    }

    async fn launch(
        &mut self,
        name: &NodeName,
        config: &NodeConfig,
        start: StartAs,
    ) -> Result<(), LocalError> {
        match self.try_launch(name, config, start).await {
            Err(error) if error.is_disk_full() => {
                // A full disk is one node's trouble: the others are looked after all the same.
                let dir = self.home.node(name);
                let detail = format!("{} is full: make room there", dir.dir().display());
                self.note_end(name, ExitKind::DiskFull, start.member, detail);
                Ok(())
            }
            other => other,
        }
    }

    fn note_end(&self, node: &NodeName, kind: ExitKind, member: Option<MemberId>, detail: String) {
        self.ends.note(node, Exit { kind, member, at: self.clock.now(), detail });
    }

    async fn try_launch(
        &mut self,
        name: &NodeName,
        config: &NodeConfig,
        start: StartAs,
    ) -> Result<(), LocalError> {
        let home = self.home.node(name);
        home.create()?;
        let text = render::print_env(config)
            .map_err(|source| LocalError::Config { path: home.config_env(), source })?;
        let environment = config
            .settings()
            .into_iter()
            .map(|(flag, value)| (render::env_name(&flag), value))
            .collect();
        home.write_config_env(&text)?;
        let before = home.read_state()?;
        let child = process::spawn(&home, &self.engine, &environment, start)?;
        self.ends.follow(name.clone(), child, start.member);
        // Whatever did not end before has ended: the lock was free.
        self.unstoppable.remove(name);
        process::settled(&home, before.as_ref()).await;
        Ok(())
    }

    async fn stop(
        &mut self,
        node: &NodeName,
        member: Option<MemberId>,
        why: StopReason,
    ) -> Result<Outcome, LocalError> {
        let home = self.home.node(node);
        let runs = home.read_state()?.and_then(|s| s.member);
        if let (Some(expected), Some(runs)) = (member, runs)
            && expected != runs
        {
            return Ok(not_now(format!("{node} runs member {runs}, not {expected}")));
        }
        if why == StopReason::Unfounded && process::look(&home).process != Process::Preparing {
            return Ok(not_now(format!("{node} has left the barrier")));
        }
        match process::stop(&home, why == StopReason::Silent).await {
            // The others are looked after meanwhile.
            Err(error @ LocalError::Unstoppable { .. }) => {
                self.unstoppable.insert(node.clone(), self.clock.steady());
                return Ok(not_now(error.to_string()));
            }
            other => other?,
        }
        // A start that follows was asked for, so it is not held back.
        self.starts.remove(node);
        Ok(Outcome::Done)
    }

    async fn remove(
        &mut self,
        seen: &Observed,
        member: MemberId,
        node: Option<&NodeName>,
        why: RemoveReason,
    ) -> Result<Outcome, LocalError> {
        if let Err(outcome) = self.change().may_remove(seen, member).await {
            return Ok(outcome);
        }
        let Some(mut file) = self.home.read()? else {
            return Ok(not_now("cluster.json is gone; nothing is removed without a record"));
        };
        if change::note_removal(&mut file.record, node, member, why, self.clock.steady()) {
            self.home.write(&file)?;
        }
        Ok(self.change().remove(Self::endpoint_of(seen, member).as_ref(), member).await)
    }

    async fn promote(&mut self, node: &NodeName, member: MemberId) -> Result<Outcome, LocalError> {
        let outcome = self.change().promote(member).await;
        if outcome == Outcome::Done {
            self.starts.remove(node);
        }
        Ok(outcome)
    }

    /// Once all is as wanted, keeps the newest set-asides for undo and drops the others. Not with
    /// the promotion: nobody may be there any more when that has succeeded.
    fn prune(&self, wanted: &Wanted) -> Result<Outcome, LocalError> {
        let keep = usize::try_from(wanted.remediation.keep_aside.max(1)).unwrap_or(usize::MAX);
        for node in wanted.nodes.keys() {
            self.home.node(node).prune_asides(keep)?;
        }
        Ok(Outcome::Done)
    }

    fn forget(
        &mut self,
        node: &NodeName,
        data_of: Option<MemberId>,
    ) -> Result<Outcome, LocalError> {
        let home = self.home.node(node);
        let Some(lock) = home.try_lock()? else {
            return Ok(not_now(format!("{node} still runs")));
        };
        match (home.disk(), data_of) {
            (Disk::Empty, _) => {}
            (_, Some(member)) => {
                home.set_aside(&lock, member)?;
            }
            (_, None) => return Ok(not_now(format!("{node} holds data that was not seen before"))),
        }
        home.forget(&lock)?;
        self.starts.remove(node);
        Ok(Outcome::Done)
    }

    fn endpoint_of(seen: &Observed, member: MemberId) -> Option<String> {
        let list = seen.members.known()?;
        list.members.iter().find(|m| m.id == member)?.client_urls.first().cloned()
    }
}

fn random() -> Result<u64, LocalError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(LocalError::NoRandomness)?;
    Ok(u64::from_be_bytes(bytes))
}
