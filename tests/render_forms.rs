//! The four printed forms: the how-to's own files, and what goes in comes back out.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use quorate::cluster::spec::read;
use quorate::cluster::{
    Kind, Member, MemberId, NodeName, Place, Role, Wanted, duration, find_setting, known_settings,
};
use quorate::render::{
    Form, InitialState, NodeConfig, RenderError, env_settings, node_config, parse_env, parse_flags,
    parse_flags_text, parse_systemd, parse_yaml, print_env, print_flags, print_systemd, print_yaml,
};

fn howto() -> Wanted {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples/howto.yaml");
    let text = std::fs::read_to_string(path).expect("the sample");
    read(&text, "howto.yaml").expect("a spec").resolve(&BTreeMap::new()).expect("resolved")
}

fn config(node: &str) -> NodeConfig {
    node_config(&howto(), &[], &node.into(), &format!("/var/lib/etcd/{node}"))
}

/// An environment file's keys and values, by the plainest reading there is.
fn keys(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (key, value) = line.split_once('=').expect("KEY=value");
        (key.to_owned(), value.trim_matches('"').to_owned())
    };
    lines.map(pair).collect()
}

#[test]
fn the_how_tos_three_files_come_out_key_by_key() {
    for node in ["etcd1", "etcd2", "etcd3"] {
        let path = format!("tests/golden/howto/{node}.env");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(&path);
        let golden = std::fs::read_to_string(golden).expect("a golden file");
        let printed = print_env(&config(node)).expect("printed");
        assert_eq!(keys(&printed), keys(&golden), "{path}");
        // And the how-to's own file, quotes and comments and all, is read as the same thing.
        assert_eq!(parse_env(&golden), Ok(config(node)), "{path}");
    }
}

#[test]
fn every_form_says_the_same_of_the_how_tos_nodes() {
    for node in ["etcd1", "etcd2", "etcd3"] {
        let config = config(node);
        assert_eq!(parse_yaml(&print_yaml(&config).expect("yaml")).as_ref(), Ok(&config));
        assert_eq!(parse_flags_text(&print_flags(&config).expect("flags")).as_ref(), Ok(&config));
        let unit = print_systemd(&config, "/usr/bin/etcd").expect("unit");
        assert_eq!(parse_systemd(&unit).as_ref(), Ok(&config));
    }
}

/// Text with whatever could end a value early, or be taken for something else.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ -~]{0,6}",
        Just("'\"`$HOME\\".to_owned()),
        Just("%n%%\\n#;".to_owned()),
        Just("\t \u{a0}\u{2028}\u{feff}\u{85}\u{1f980}".to_owned()),
        Just("\n\r\u{1}\u{7f}".to_owned()),
        Just("yes: - 0x1F 2:30 ~ null".to_owned()),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn tame(text: &str, refused: &[char]) -> String {
    text.replace(|c: char| c.is_whitespace() || c.is_control() || refused.contains(&c), "")
}

fn url() -> impl Strategy<Value = String> {
    hostile().prop_map(|text| format!("http://{}:2380", tame(&text, &[','])))
}

fn member_name() -> impl Strategy<Value = String> {
    hostile().prop_map(|text| format!("m{}m", text.replace([',', '='], "")))
}

fn setting() -> impl Strategy<Value = (String, String)> {
    let first_class = [
        "name",
        "data-dir",
        "listen-peer-urls",
        "listen-client-urls",
        "initial-advertise-peer-urls",
        "advertise-client-urls",
        "initial-cluster",
        "initial-cluster-state",
        "initial-cluster-token",
    ];
    let names: Vec<_> = known_settings().filter(|name| !first_class.contains(name)).collect();
    (prop::sample::select(names), hostile(), any::<i64>(), any::<bool>()).prop_map(
        |(name, text, number, flag)| {
            let value = match find_setting(name).expect("known").kind {
                Kind::Text | Kind::List => text,
                Kind::Bool => flag.to_string(),
                Kind::Int => number.to_string(),
                Kind::Duration => duration(number),
            };
            (name.to_owned(), value)
        },
    )
}

prop_compose! {
    fn any_config()(
        name in hostile(),
        data_dir in hostile(),
        urls in prop::collection::vec(prop::collection::vec(url(), 0..3), 4),
        initial_cluster in prop::collection::vec((member_name(), url()), 0..4),
        existing in any::<bool>(),
        token in hostile(),
        more in prop::collection::vec(setting(), 0..5),
        tame in any::<bool>(),
    ) -> NodeConfig {
        let config = NodeConfig {
            name,
            data_dir,
            listen_peer_urls: urls[0].clone(),
            listen_client_urls: urls[1].clone(),
            initial_advertise_peer_urls: urls[2].clone(),
            advertise_client_urls: urls[3].clone(),
            initial_cluster,
            initial_cluster_state: if existing { InitialState::Existing } else { InitialState::New },
            initial_cluster_token: token,
            extra: more.into_iter().collect(),
        };
        if tame { printable(config) } else { config }
    }
}

/// The same configuration without what an environment cannot carry, or most would be refused.
fn printable(config: NodeConfig) -> NodeConfig {
    let line = |text: String| text.replace(|c: char| c.is_control() && c != '\t', "");
    let extra = config.extra.into_iter().map(|(name, value)| (name, line(value)));
    NodeConfig {
        name: line(config.name),
        data_dir: line(config.data_dir),
        initial_cluster: config
            .initial_cluster
            .into_iter()
            .map(|(name, url)| (line(name), url))
            .collect(),
        initial_cluster_token: line(config.initial_cluster_token),
        extra: extra.filter(|(_, value)| !value.is_empty()).collect(),
        ..config
    }
}

/// What etcd's environment cannot carry, told without the printer's help.
fn env_refuses(config: &NodeConfig) -> bool {
    config
        .settings()
        .values()
        .any(|value| value.is_empty() || value.chars().any(|c| c.is_control() && c != '\t'))
}

fn yaml_refuses(config: &NodeConfig) -> bool {
    let absent = |name: &String| find_setting(name).expect("known").place == Place::Absent;
    let given = |name| config.extra.contains_key(name);
    let half = given("auto-compaction-retention") && !given("auto-compaction-mode");
    half || config.extra.keys().any(absent)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_read_back_or_was_refused_for_a_reason(config in any_config()) {
        let refused = |printed: &Result<String, RenderError>, form: Form| {
            matches!(printed, Err(RenderError::CannotCarry { form: told, .. }) if *told == form)
        };
        let env = print_env(&config);
        prop_assert_eq!(refused(&env, Form::Env), env_refuses(&config), "{:?}", env);
        if let Ok(text) = env {
            prop_assert_eq!(parse_env(&text), Ok(config.clone()), "{}", text);
        }
        let unit = print_systemd(&config, "/usr/bin/etcd");
        prop_assert_eq!(refused(&unit, Form::Systemd), env_refuses(&config), "{:?}", unit);
        if let Ok(text) = unit {
            prop_assert_eq!(parse_systemd(&text), Ok(config.clone()), "{}", text);
        }
        let yaml = print_yaml(&config);
        prop_assert_eq!(refused(&yaml, Form::Yaml), yaml_refuses(&config), "{:?}", yaml);
        if let Ok(text) = yaml {
            prop_assert_eq!(parse_yaml(&text), Ok(config.clone()), "{}", text);
        }
        let flags = config.to_flags().expect("flags carry everything");
        prop_assert_eq!(parse_flags(&flags), Ok(config.clone()));
        let text = print_flags(&config).expect("flags carry everything");
        prop_assert_eq!(parse_flags_text(&text), Ok(config.clone()), "{}", text);
        prop_assert_eq!(NodeConfig::from_settings(config.settings()), Ok(config));
    }
}

#[test]
fn what_would_change_a_list_or_is_no_setting_is_refused_in_every_form() {
    let broken = |change: fn(&mut NodeConfig)| {
        let mut config = config("etcd1");
        change(&mut config);
        config
    };
    for config in [
        broken(|config| config.listen_peer_urls = vec!["http://a:1,http://b:2".into()]),
        broken(|config| config.advertise_client_urls = vec![String::new()]),
        broken(|config| config.initial_cluster[0].0 = "a=b".into()),
        broken(|config| config.initial_cluster[0].0 = "a,b".into()),
        broken(|config| config.initial_cluster[0].0 = " a".into()),
        broken(|config| config.data_dir = "/a\0b".into()),
        broken(|config| drop(config.extra.insert("heartbeat-intervall".into(), "5".into()))),
        broken(|config| drop(config.extra.insert("pre-vote".into(), "perhaps".into()))),
        broken(|config| drop(config.extra.insert("name".into(), "two".into()))),
    ] {
        for printed in [
            print_env(&config),
            print_yaml(&config),
            print_flags(&config),
            print_systemd(&config, "/usr/bin/etcd"),
        ] {
            assert!(matches!(printed, Err(RenderError::Setting(_))), "{printed:?}");
        }
    }
}

#[test]
fn flags_are_read_as_etcd_reads_them() {
    let read = |args: &[&str]| parse_flags(args).map(|config| config.settings());
    let told = |args: &[&str]| read(args).expect_err("refused").to_string();
    let settings = read(&[
        "-name",
        "a",
        "--enable-v2",
        "--snapshot-count=5",
        "--snapshot-count",
        "7",
        "-pre-vote=F",
        "--listen-peer-urls",
        "http://a:1, http://b:2",
        "--data-dir=",
    ]);
    let settings: Vec<_> =
        settings.expect("settings").into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(
        settings,
        [
            "enable-v2=true",
            "initial-cluster-state=new",
            "listen-peer-urls=http://a:1,http://b:2",
            "name=a",
            "pre-vote=false",
            "snapshot-count=7"
        ]
    );
    assert_eq!(told(&["--enable-v2", "false"]), "\"false\" is not a flag; write --name=value");
    assert_eq!(told(&["--name"]), "--name wants a value: --name=VALUE");
    assert_eq!(
        told(&["--heartbeat-intervall=5"]),
        "etcd has no setting heartbeat-intervall; did you mean heartbeat-interval?"
    );
    assert_eq!(told(&["--snapshot-count=many"]), "snapshot-count: \"many\" is not a whole number");
    assert_eq!(
        told(&["--initial-cluster=a"]),
        "initial-cluster: \"a\" is not a list of NAME=PEER-URL"
    );
}

#[test]
fn a_config_file_that_etcd_would_not_read_is_refused() {
    let told = |text: &str| parse_yaml(text).expect_err("refused").to_string();
    assert_eq!(
        told("snapshot-count: '5'"),
        "snapshot-count: \"'5'\" is not a whole number, without quotes"
    );
    assert_eq!(
        told("enable-v2: 'true'"),
        "enable-v2: \"'true'\" is not true or false, without quotes"
    );
    assert_eq!(
        told("backend-batch-interval: 5s"),
        "backend-batch-interval: \"5s\" is not a whole number of nanoseconds, without quotes"
    );
    assert_eq!(told("nmae: x"), "etcd has no setting nmae; did you mean name?");
    assert_eq!(
        told("name: a\ndata-dir: b: c"),
        "line 2: mapping values are not allowed in this context"
    );
    let tls = "client-transport-security: {cert-file: /c, client-cert-auth: true}\npeer-transport-security:\n  cert-file: /p\n";
    let config = parse_yaml(tls).expect("a config file");
    let extra: Vec<_> =
        config.extra.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(extra, ["cert-file=/c", "client-cert-auth=true", "peer-cert-file=/p"]);
    assert_eq!(parse_yaml(&print_yaml(&config).expect("printed")), Ok(config));
}

#[test]
fn of_an_environment_only_etcds_variables_count() {
    let found = env_settings([
        ("PATH", "/bin"),
        ("ETCD_NAME", "a"),
        ("ETCD_DATA_DIR", ""),
        ("ETCD_VERSION", "3"),
    ]);
    assert_eq!(found.settings, BTreeMap::from([("name".to_owned(), "a".to_owned())]));
    assert_eq!(found.unknown, ["ETCD_VERSION"]);
}

fn member(id: u64, name: &str, host: u8) -> Member {
    Member {
        id: MemberId(id),
        name: name.to_owned(),
        peer_urls: vec![format!("http://192.168.2.{host}:2380")],
        client_urls: Vec::new(),
        role: Role::Voter,
    }
}

fn cluster_of(members: &[Member], node: &str) -> (InitialState, String) {
    let config = node_config(&howto(), members, &node.into(), "/d");
    (config.initial_cluster_state, config.settings()["initial-cluster"].clone())
}

#[test]
fn a_node_that_joins_is_told_of_the_live_list() {
    // etcd2 is replaced; etcd3 is unstarted too; a member nobody here knows was added by hand.
    let live = [
        member(0xa, "etcd1", 210),
        member(0xb, "", 211),
        member(0xc, "", 212),
        member(0xd, "", 99),
    ];
    let (state, cluster) = cluster_of(&live, "etcd2");
    assert_eq!(state, InitialState::Existing);
    assert_eq!(
        cluster,
        "d=http://192.168.2.99:2380,etcd1=http://192.168.2.210:2380,\
         etcd2=http://192.168.2.211:2380,etcd3=http://192.168.2.212:2380"
    );
    let config = node_config(&howto(), &live, &"etcd2".into(), "/d");
    assert_eq!(config.initial_advertise_peer_urls, ["http://192.168.2.211:2380"]);
}

#[test]
fn no_name_is_given_to_two_members() {
    // The old etcd2 is still listed under its name, at another URL, and so is a stranger that
    // calls itself etcd1 and one whose ID is another one's name.
    let live = [
        member(0xa, "etcd1", 210),
        member(0xb, "", 211),
        member(0xc, "etcd2", 50),
        member(0xd, "etcd1", 51),
        member(0xe, "f", 52),
        member(0xf, "", 53),
    ];
    let (_, cluster) = cluster_of(&live, "etcd2");
    assert_eq!(
        cluster,
        "c=http://192.168.2.50:2380,d=http://192.168.2.51:2380,etcd1=http://192.168.2.210:2380,\
         etcd2=http://192.168.2.211:2380,f=http://192.168.2.52:2380,f_=http://192.168.2.53:2380"
    );
}

#[test]
fn a_member_with_two_urls_stands_twice_and_is_advertised_as_it_is_listed() {
    let mut own = member(0xb, "", 211);
    own.peer_urls.insert(0, "http://10.0.0.2:2380".to_owned());
    let live = [member(0xa, "etcd1", 210), own.clone()];
    let config = node_config(&howto(), &live, &"etcd2".into(), "/d");
    assert_eq!(config.initial_advertise_peer_urls, own.peer_urls);
    assert_eq!(
        config.settings()["initial-cluster"],
        "etcd1=http://192.168.2.210:2380,etcd2=http://10.0.0.2:2380,etcd2=http://192.168.2.211:2380"
    );
    assert_eq!(config.listen_peer_urls, ["http://192.168.2.211:2380"]);
}

#[test]
fn a_node_with_a_dns_name_listens_on_every_address() {
    let mut wanted = howto();
    let place = wanted.nodes.get_mut(&NodeName::from("etcd1")).expect("etcd1");
    place.peer_url = "http://etcd1.example.org:2380".to_owned();
    place.client_urls = ["http://localhost:1", "http://[fd00::1]:2"].map(str::to_owned).to_vec();
    let config = node_config(&wanted, &[], &"etcd1".into(), "/d");
    assert_eq!(config.listen_peer_urls, ["http://0.0.0.0:2380"]);
    assert_eq!(config.initial_advertise_peer_urls, ["http://etcd1.example.org:2380"]);
    assert_eq!(config.listen_client_urls, ["http://localhost:1", "http://[fd00::1]:2"]);
}

#[test]
fn a_node_that_is_wanted_no_more_keeps_the_urls_of_its_member() {
    let mut old = member(0xe, "etcd9", 219);
    old.client_urls = vec!["http://192.168.2.219:2379".to_owned()];
    let config = node_config(&howto(), &[member(0xa, "etcd1", 210), old], &"etcd9".into(), "/d");
    assert_eq!(config.listen_peer_urls, ["http://192.168.2.219:2380"]);
    assert_eq!(config.advertise_client_urls, ["http://192.168.2.219:2379"]);
    assert!(config.initial_cluster.contains(&("etcd9".into(), "http://192.168.2.219:2380".into())));
}
