//! The node as its services see it: [`Replica`].

use tokio::sync::watch;

use super::members::Change;
use super::node::Node;
use crate::cluster::{ClusterId, MemberId};
use crate::node::apply::{Operation, Response, State};
use crate::node::fault::Fault;
use crate::node::replica::{Replica, Standing};
use crate::proto::etcdserverpb::Member;

impl Replica for Node {
    fn cluster(&self) -> ClusterId {
        self.inner.shared.ids.cluster
    }

    fn member(&self) -> MemberId {
        self.inner.own()
    }

    fn standing(&self) -> Standing {
        self.inner.stands()
    }

    fn standing_changes(&self) -> watch::Receiver<Standing> {
        self.inner.standing.subscribe()
    }

    async fn propose(&self, operation: Operation) -> Result<Response, Fault> {
        self.inner.agree(&operation).await
    }

    async fn read_barrier(&self) -> Result<(), Fault> {
        self.inner.barrier().await
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.inner.shared.replicated.read().state)
    }

    fn members(&self) -> Vec<Member> {
        self.read(State::member_list)
    }

    async fn add_member(
        &self,
        peer_urls: Vec<String>,
        as_learner: bool,
    ) -> Result<(Member, Vec<Member>), Fault> {
        let added = self.inner.change_members(&Change::Add { peer_urls, as_learner }).await?;
        let members = self.members();
        let member = members.iter().find(|it| it.id == added.id.0).cloned();
        Ok((member.ok_or(Fault::MemberNotFound)?, members))
    }

    async fn remove_member(&self, id: MemberId) -> Result<Vec<Member>, Fault> {
        self.inner.change_members(&Change::Remove { id }).await?;
        let mut members = self.members();
        // This member may not have applied its own removal.
        members.retain(|it| it.id != id.0);
        Ok(members)
    }

    async fn update_member(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
    ) -> Result<Vec<Member>, Fault> {
        self.inner.change_members(&Change::Update { id, peer_urls }).await?;
        Ok(self.members())
    }

    async fn promote_member(&self, id: MemberId) -> Result<Vec<Member>, Fault> {
        self.inner.change_members(&Change::Promote { id }).await?;
        Ok(self.members())
    }

    async fn move_leader(&self, to: MemberId) -> Result<(), Fault> {
        self.inner.move_leader(to).await
    }

    async fn renew_lease(&self, id: i64) -> Result<i64, Fault> {
        self.inner.renew(id).await
    }

    async fn lease_left(&self, id: i64) -> Result<Option<(i64, i64)>, Fault> {
        self.inner.lease_left(id).await
    }

    fn disk_size(&self) -> u64 {
        self.inner.keeper.disk_size()
    }

    async fn defragment(&self) -> Result<(), Fault> {
        self.inner.keeper.flush(true).await.map_err(|_| Fault::Storage)
    }

    async fn swept(&self) -> Result<(), Fault> {
        self.inner.keeper.swept().await.map_err(|_| Fault::Storage)
    }
}
