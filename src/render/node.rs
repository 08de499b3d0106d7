//! What one node is started with.

use std::collections::BTreeSet;
// `core` has the address types without the sockets, which no pure module may name.
use core::net::IpAddr;

use crate::cluster::{Member, MemberId, NodeName, Wanted, WantedNode};

use super::{InitialState, NodeConfig};

/// The configuration of `node`.
///
/// With an empty `members` it founds: state `new` and the full wanted list. With a live list it
/// joins: state `existing` and the initial cluster as that list has it, in which the node's own
/// entry (the one with its peer URL) carries its name. An unstarted member is called after the
/// node that owns its peer URL, else by its ID in hex, and no name is given to two members:
/// etcd would take them for one member with two URLs (safety 19).
///
/// A node that the spec does not want, but that a live member is named after, keeps that
/// member's URLs. One that neither knows gets none, and etcd refuses to start it.
pub fn node_config(
    wanted: &Wanted,
    members: &[Member],
    node: &NodeName,
    data_dir: &str,
) -> NodeConfig {
    let place = wanted.nodes.get(node).cloned().or_else(|| leftover(members, node));
    let place = place.as_ref();
    let own = place.and_then(|place| members.iter().find(|one| owns(one, &place.peer_url)));
    let peer_urls: Vec<_> = place.map(|place| place.peer_url.clone()).into_iter().collect();
    let client_urls = place.map(|place| place.client_urls.clone()).unwrap_or_default();
    let (initial_cluster, initial_cluster_state) = if members.is_empty() {
        let all = wanted.nodes.iter().map(|(name, node)| (name.0.clone(), node.peer_url.clone()));
        (all.collect(), InitialState::New)
    } else {
        let owner = |member: &Member| {
            let owner = wanted.nodes.iter().find(|(_, wanted)| owns(member, &wanted.peer_url));
            owner.map(|(name, _)| name.0.clone())
        };
        let cluster = live_cluster(members, &node.0, own.map(|own| own.id), owner);
        (cluster, InitialState::Existing)
    };
    NodeConfig {
        name: node.0.clone(),
        data_dir: data_dir.to_owned(),
        listen_peer_urls: peer_urls.iter().map(|url| listen_url(url)).collect(),
        listen_client_urls: client_urls.iter().map(|url| listen_url(url)).collect(),
        // etcd refuses a first start in which these differ from its own entry in the list.
        initial_advertise_peer_urls: own.map_or(peer_urls, |own| own.peer_urls.clone()),
        advertise_client_urls: client_urls,
        initial_cluster,
        initial_cluster_state,
        initial_cluster_token: wanted.token.clone(),
        extra: wanted.options.settings(),
    }
}

fn leftover(members: &[Member], node: &NodeName) -> Option<WantedNode> {
    let member = members.iter().find(|member| member.name == node.0)?;
    let peer_url = member.peer_urls.first()?.trim_end_matches('/').to_owned();
    Some(WantedNode { peer_url, client_urls: member.client_urls.clone() })
}

fn owns(member: &Member, peer_url: &str) -> bool {
    member.peer_urls.iter().any(|url| url.trim_end_matches('/') == peer_url)
}

/// The initial cluster as a live list has it, for the node called `node` whose own entry is `own`.
///
/// The own member is named first, then the started ones, so that a name which two could claim
/// goes to the one that etcd would look for. An unstarted member has published no name: it is
/// called what `name_of` knows it by, else by its ID. No name stands for two members, or etcd
/// would take them for one with two URLs (safety 19).
pub fn live_cluster(
    members: &[Member],
    node: &str,
    own: Option<MemberId>,
    name_of: impl Fn(&Member) -> Option<String>,
) -> Vec<(String, String)> {
    let mut order: Vec<_> = members.iter().collect();
    let is_own = |member: &Member| own == Some(member.id);
    order.sort_by_key(|member| (!is_own(member), !member.is_started(), member.id));
    let mut taken = BTreeSet::new();
    let mut named = Vec::new();
    for member in order {
        let name = if is_own(member) {
            Some(node.to_owned())
        } else if member.is_started() {
            Some(member.name.clone())
        } else {
            name_of(member)
        };
        // A node may be called like another member's ID; underscores end the clash, as no node
        // name has one.
        let mut name = name.unwrap_or_else(|| member.id.to_string());
        if taken.contains(&name) {
            name = member.id.to_string();
        }
        while taken.contains(&name) {
            name.push('_');
        }
        taken.insert(name.clone());
        named.push((member, name));
    }
    named.sort_by(|a, b| a.1.cmp(&b.1));
    let urls = |(member, name): (&Member, String)| {
        let pair = move |url: &String| (name.clone(), url.clone());
        member.peer_urls.iter().map(pair).collect::<Vec<_>>()
    };
    named.into_iter().flat_map(urls).collect()
}

/// Where to listen for a URL that is advertised: etcd binds addresses and `localhost` only, so a
/// DNS name listens on every address of the machine.
fn listen_url(advertised: &str) -> String {
    let Some((scheme, rest)) = advertised.split_once("://") else { return advertised.to_owned() };
    let Some((host, port)) = rest.rsplit_once(':') else { return advertised.to_owned() };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare == "localhost" || bare.parse::<IpAddr>().is_ok() {
        return advertised.to_owned();
    }
    format!("{scheme}://0.0.0.0:{port}")
}
