//! Member and cluster IDs exactly as etcd derives them.
//!
//! Source: etcd's server/etcdserver/api/membership (`NewMember`, `genID`).

use sha1::{Digest, Sha1};

use super::{ClusterId, MemberId};

/// The ID of a member named in the initial cluster: the first 8 bytes of the SHA-1 of its peer
/// URLs, sorted and joined, followed by the cluster token.
///
/// ```
/// # use quorate::cluster::founding_member_id;
/// let id = founding_member_id(["http://192.168.2.210:2380"], "hilinux-etcd-cluster");
/// assert_eq!(id.to_string(), "a8589aa8629b731b");
/// ```
pub fn founding_member_id<'a>(
    peer_urls: impl IntoIterator<Item = &'a str>,
    token: &str,
) -> MemberId {
    MemberId(hash_urls(peer_urls, token.as_bytes()))
}

/// The ID of a member added at run time: as [`founding_member_id`], but the token is empty and
/// the time of the request, in decimal Unix seconds, follows.
///
/// ```
/// # use quorate::cluster::added_member_id;
/// let id = added_member_id(["http://192.168.2.210:2380"], 1_491_884_078);
/// assert_eq!(id.to_string(), "baab0aae8b58c802");
/// ```
pub fn added_member_id<'a>(
    peer_urls: impl IntoIterator<Item = &'a str>,
    unix_seconds: u64,
) -> MemberId {
    MemberId(hash_urls(peer_urls, unix_seconds.to_string().as_bytes()))
}

/// The ID of the cluster that these members found: the first 8 bytes of the SHA-1 of their IDs,
/// sorted, each as eight bytes, big end first.
pub fn founding_cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<_> = members.into_iter().collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.0.to_be_bytes());
    }
    ClusterId(first_eight(&hash.finalize()))
}

fn hash_urls<'a>(peer_urls: impl IntoIterator<Item = &'a str>, suffix: &[u8]) -> u64 {
    let mut urls: Vec<_> = peer_urls.into_iter().collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url.as_bytes());
    }
    hash.update(suffix);
    first_eight(&hash.finalize())
}

fn first_eight(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "hilinux-etcd-cluster";

    #[test]
    fn the_how_tos_members_and_cluster_get_etcds_ids() {
        let ids = ["210", "211", "212"]
            .map(|host| founding_member_id([&*format!("http://192.168.2.{host}:2380")], TOKEN));
        let text = ids.map(|id| id.to_string());
        assert_eq!(text, ["a8589aa8629b731b", "e4a3e95f72ced4a7", "a3ba19408fd4c829"]);
        assert_eq!(founding_cluster_id(ids).to_string(), "2a787c81fe23f900");
    }

    #[test]
    fn a_cluster_of_one_over_tls_gets_etcds_id() {
        let id = founding_member_id(["https://localhost:20001"], "new");
        assert_eq!(founding_cluster_id([id]).to_string(), "34c21a2d427db393");
    }

    #[test]
    fn the_order_in_which_urls_are_given_does_not_matter() {
        let (a, b) = ("http://a:1", "http://b:2");
        assert_eq!(founding_member_id([a, b], "t"), founding_member_id([b, a], "t"));
    }
}
