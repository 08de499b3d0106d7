//! Peer URLs as requests bring them, checked and put in order as etcd does.
//!
//! Source: etcd's `client/pkg/types/urls.go`.

use axum::http::Uri;

/// The URLs, sorted.
///
/// # Errors
///
/// etcd's own words on what is wrong with them, which the v2 API answers.
pub(super) fn peer_urls(given: &[String]) -> Result<Vec<String>, String> {
    if given.is_empty() {
        return Err("no valid URLs given".to_owned());
    }
    let mut urls = given.iter().map(|it| check(it.trim())).collect::<Result<Vec<_>, _>>()?;
    urls.sort();
    Ok(urls)
}

fn check(url: &str) -> Result<String, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!("URL scheme must be http, https, unix, or unixs: {url}"));
    };
    match scheme {
        "unix" | "unixs" => return Ok(url.to_owned()),
        "http" | "https" => {}
        _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {url}")),
    }
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // The host as a URI has it: brackets around an IPv6 address, and a port that is a number.
    let port = format!("http://{host}").parse::<Uri>().ok().and_then(|it| it.port_u16());
    if port.is_none() || host.contains('@') {
        return Err(format!("URL address does not have the form \"host:port\": {url}"));
    }
    if !path.is_empty() {
        return Err(format!("URL must not contain a path: {url}"));
    }
    Ok(url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_sorted_and_bad_ones_are_refused_in_etcds_words() {
        let some = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let good = some(&["http://b:2", " http://[::1]:1 ", "https://a:1", "unix://x:1"]);
        let sorted = some(&["http://[::1]:1", "http://b:2", "https://a:1", "unix://x:1"]);
        assert_eq!(peer_urls(&good), Ok(sorted));
        assert_eq!(peer_urls(&[]), Err("no valid URLs given".to_owned()));
        for (bad, words) in [
            ("ftp://x:1", "URL scheme must be http"),
            ("a:1", "URL scheme must be http"),
            ("http://a", "does not have the form"),
            ("http://a:b", "does not have the form"),
            ("http://a:1:2", "does not have the form"),
            ("http://:70000", "does not have the form"),
            ("http://a:1/", "must not contain a path"),
            ("http://a:1/x", "must not contain a path"),
        ] {
            let refused = peer_urls(&some(&["http://b:2", bad])).unwrap_err();
            assert!(refused.contains(words) && refused.ends_with(bad), "{refused}");
        }
    }
}
