//! Frees replies of what only says which of the two servers gave them.
//!
//! What is the server's own is taken for what it stands for. Where it is another one's, or not
//! there at all, it stays, and will differ.

use quorate::proto::etcdserverpb::{Member, ResponseHeader};

use crate::asks::{Ask, Reply};

/// In requests and replies: the member, the cluster and the term of this server.
pub const OWN: u64 = 1;
/// In requests and replies: where it listens for peers.
pub const OWN_PEER_URL: &str = "its peer URL";

/// What is one server's own.
pub struct Own {
    pub header: ResponseHeader,
    /// For clients and for peers.
    pub urls: [String; 2],
}

fn take(found: &mut u64, own: u64) {
    if *found == own {
        *found = OWN;
    }
}

pub fn make_plain(header: &mut ResponseHeader, own: &ResponseHeader) {
    take(&mut header.cluster_id, own.cluster_id);
    take(&mut header.member_id, own.member_id);
    take(&mut header.raft_term, own.raft_term);
}

impl Own {
    /// The request with what is this server's own in it.
    pub fn address(&self, mut ask: Ask) -> Ask {
        let id = |id: &mut u64| {
            if *id == OWN {
                *id = self.header.member_id;
            }
        };
        match &mut ask {
            Ask::MemberAdd(it) => {
                for url in it.peer_urls.iter_mut().filter(|it| *it == OWN_PEER_URL) {
                    url.clone_from(&self.urls[1]);
                }
            }
            Ask::MemberRemove(it) => id(&mut it.id),
            Ask::MemberUpdate(it) => id(&mut it.id),
            Ask::MemberPromote(it) => id(&mut it.id),
            Ask::MoveLeader(it) => id(&mut it.target_id),
            Ask::Alarm(it) => id(&mut it.member_id),
            _ => {}
        }
        ask
    }

    pub fn make_plain(&self, reply: &mut Reply) {
        if let Some(header) = reply.header() {
            make_plain(header, &self.header);
        }
        match reply {
            Reply::MemberList(it) => {
                it.members.iter_mut().for_each(|it| self.make_member_plain(it));
            }
            Reply::Status(it) => {
                take(&mut it.leader, self.header.member_id);
                take(&mut it.raft_term, self.header.raft_term);
                let own = format!("memberID:{} ", self.header.member_id);
                for text in &mut it.errors {
                    *text = text.replace(&own, "memberID:1 ");
                }
            }
            Reply::Alarm(it) => {
                it.alarms.iter_mut().for_each(|it| take(&mut it.member_id, self.header.member_id));
            }
            _ => {}
        }
    }

    fn make_member_plain(&self, member: &mut Member) {
        take(&mut member.id, self.header.member_id);
        for (urls, own, plain) in [
            (&mut member.client_urls, &self.urls[0], "its client URL"),
            (&mut member.peer_urls, &self.urls[1], OWN_PEER_URL),
        ] {
            for url in urls.iter_mut().filter(|it| *it == own) {
                plain.clone_into(url);
            }
        }
    }
}
