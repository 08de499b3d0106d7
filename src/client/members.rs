//! The member list and its changes.
//!
//! A change is sent once, to an endpoint that has just answered a linearizable read: so nothing
//! is ever sent to a member that is frozen or without a quorum, where its fate would stay
//! unknown.

use tonic::transport::Channel;

use super::status::header;
use super::{Client, ClientError};
use crate::cluster::{ClusterId, Member, MemberId, MemberList, Role};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::cluster_client::ClusterClient;
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::maintenance_client::MaintenanceClient;

/// The key that is read to see whether a quorum answers: the one etcdctl reads for its health
/// check, so that a role for it is likely to exist where authentication is on.
const PROBE: &[u8] = b"health";

impl Client {
    /// Reads the member list from an endpoint on which a linearizable read succeeded just before
    /// (safety 5). Endpoints are asked in turn, the next one as soon as one fails or hesitates;
    /// the first vouched answer wins. The leader is that of the same endpoint's status.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoEndpoint`] when no endpoint could vouch, with the most telling failure
    /// as its source ([`super::Refusal::AuthRequired`] among them): the list is unknown then.
    pub async fn vouched_members(&self, endpoints: &[String]) -> Result<MemberList, ClientError> {
        let (_, list) =
            self.first_of("member list", endpoints, |it| self.vouched_members_of(it)).await?;
        Ok(list)
    }

    /// Reads the member list from one endpoint's local state, which may be old and needs no
    /// quorum: not to be acted on.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn local_members(&self, endpoint: &str) -> Result<MemberList, ClientError> {
        let ((_, list), status) = tokio::try_join!(self.list(endpoint), self.status(endpoint))?;
        Ok(MemberList { leader: status.leader, ..list })
    }

    /// Adds a learner with these peer URLs; returns its entry, with its new ID.
    ///
    /// # Errors
    ///
    /// Refusals: `UnhealthyCluster`, `TooManyLearners` (both mean wait, safety 16),
    /// `PeerUrlExists`. Ambiguous errors: see [`ClientError::is_ambiguous`].
    pub async fn add_learner(
        &self,
        endpoints: &[String],
        peer_urls: &[String],
    ) -> Result<Member, ClientError> {
        self.add("add learner", endpoints, peer_urls, true).await
    }

    /// Adds a voter with these peer URLs: what a person would do by hand. Quorate itself always
    /// adds learners.
    ///
    /// # Errors
    ///
    /// As [`Client::add_learner`].
    pub async fn add_voter(
        &self,
        endpoints: &[String],
        peer_urls: &[String],
    ) -> Result<Member, ClientError> {
        self.add("add voter", endpoints, peer_urls, false).await
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    ///
    /// Refusals: `NotInSync` (wait), `NotLearner` (done already), `MemberNotFound`. Ambiguous
    /// errors: see [`ClientError::is_ambiguous`].
    pub async fn promote(&self, endpoints: &[String], id: MemberId) -> Result<(), ClientError> {
        self.change("promote", endpoints, |channel| async move {
            ClusterClient::new(channel).member_promote(pb::MemberPromoteRequest { id: id.0 }).await
        })
        .await?;
        Ok(())
    }

    /// Removes a member, voter or learner.
    ///
    /// # Errors
    ///
    /// Refusals: `MemberNotFound` (done already), `UnhealthyCluster`, `NotEnoughStarted` (both
    /// mean wait). Ambiguous errors: see [`ClientError::is_ambiguous`].
    pub async fn remove(&self, endpoints: &[String], id: MemberId) -> Result<(), ClientError> {
        self.change("remove member", endpoints, |channel| async move {
            ClusterClient::new(channel).member_remove(pb::MemberRemoveRequest { id: id.0 }).await
        })
        .await?;
        Ok(())
    }

    /// Replaces a member's whole list of peer URLs.
    ///
    /// # Errors
    ///
    /// Refusals: `PeerUrlExists`, `MemberNotFound`. Ambiguous errors: see
    /// [`ClientError::is_ambiguous`].
    pub async fn update_peer_urls(
        &self,
        endpoints: &[String],
        id: MemberId,
        peer_urls: &[String],
    ) -> Result<(), ClientError> {
        let request = pb::MemberUpdateRequest { id: id.0, peer_urls: peer_urls.to_vec() };
        self.change("update peer URLs", endpoints, |channel| {
            let request = request.clone();
            async move { ClusterClient::new(channel).member_update(request).await }
        })
        .await?;
        Ok(())
    }

    /// Hands the leadership to `to`; must be asked of the leader itself. Returns once `to` leads,
    /// or at once if it does already.
    ///
    /// # Errors
    ///
    /// Refusals: `NotLeader`, `BadTransferee`. After an ambiguous error the status tells who
    /// leads.
    pub async fn move_leader(
        &self,
        leader_endpoint: &str,
        to: MemberId,
    ) -> Result<(), ClientError> {
        self.call("move leader", leader_endpoint, |channel| async move {
            let request = pb::MoveLeaderRequest { target_id: to.0 };
            MaintenanceClient::new(channel).move_leader(request).await
        })
        .await?;
        Ok(())
    }

    async fn add(
        &self,
        call: &'static str,
        endpoints: &[String],
        peer_urls: &[String],
        is_learner: bool,
    ) -> Result<Member, ClientError> {
        let request = pb::MemberAddRequest { peer_urls: peer_urls.to_vec(), is_learner };
        let (endpoint, answer) = self
            .change(call, endpoints, |channel| {
                let request = request.clone();
                async move { ClusterClient::new(channel).member_add(request).await }
            })
            .await?;
        answer.member.map(member).ok_or_else(|| ClientError::BadAnswer {
            call,
            endpoint: endpoint.to_owned(),
            what: "the answer does not say which member was added".to_owned(),
        })
    }

    /// Sends a change, once, to the first endpoint that has a quorum. Only when it certainly was
    /// not sent, because the connection did not come about, does it go to another endpoint.
    async fn change<'a, T, Fut>(
        &self,
        call: &'static str,
        endpoints: &'a [String],
        make: impl Fn(Channel) -> Fut,
    ) -> Result<(&'a str, T), ClientError>
    where
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let mut left: Vec<&String> = endpoints.iter().collect();
        loop {
            let (endpoint, _) =
                self.first_of(call, left.iter().copied(), |it| self.quorum_read(call, it)).await?;
            match self.call(call, endpoint, &make).await {
                Err(ClientError::Unreachable { .. }) => left.retain(|it| *it != endpoint),
                result => return result.map(|answer| (endpoint, answer)),
            }
        }
    }

    /// Reads through a quorum, for nothing but the proof that there is one.
    async fn quorum_read(
        &self,
        call: &'static str,
        endpoint: &str,
    ) -> Result<pb::ResponseHeader, ClientError> {
        let request =
            pb::RangeRequest { key: PROBE.into(), count_only: true, ..pb::RangeRequest::default() };
        let answer = self
            .call(call, endpoint, |channel| async { KvClient::new(channel).range(request).await })
            .await?;
        header(call, endpoint, answer.header)
    }

    async fn vouched_members_of(&self, endpoint: &str) -> Result<MemberList, ClientError> {
        const CALL: &str = "member list";
        let quorum = self.quorum_read(CALL, endpoint).await?;
        let ((from, list), status) = tokio::try_join!(self.list(endpoint), self.status(endpoint))?;
        // Behind a balancer, or with the member replaced in between, one would vouch for another.
        let who = [quorum.member_id, from.0, status.member.0];
        if who != [quorum.member_id; 3] || list.cluster.0 != quorum.cluster_id {
            return Err(ClientError::BadAnswer {
                call: CALL,
                endpoint: endpoint.to_owned(),
                what: "different members answered on one endpoint".to_owned(),
            });
        }
        Ok(MemberList { leader: status.leader, ..list })
    }

    /// One endpoint's own list, without a leader, and who told it.
    async fn list(&self, endpoint: &str) -> Result<(MemberId, MemberList), ClientError> {
        const CALL: &str = "member list";
        let answer = self
            .call(CALL, endpoint, |channel| async {
                let request = pb::MemberListRequest { linearizable: false };
                ClusterClient::new(channel).member_list(request).await
            })
            .await?;
        let header = header(CALL, endpoint, answer.header)?;
        let mut members: Vec<_> = answer.members.into_iter().map(member).collect();
        members.sort_unstable_by_key(|it| it.id);
        let list = MemberList { cluster: ClusterId(header.cluster_id), members, leader: None };
        Ok((MemberId(header.member_id), list))
    }
}

fn member(it: pb::Member) -> Member {
    Member {
        id: MemberId(it.id),
        name: it.name,
        peer_urls: it.peer_urls,
        client_urls: it.client_urls,
        role: if it.is_learner { Role::Learner } else { Role::Voter },
    }
}
