//! Renders one node's static configuration, and reads it back.
//!
//! [`node_config`] turns what is wanted and the live member list into a [`NodeConfig`]; four
//! forms print it, and each is read back to the same value:
//!
//! | form | printed by | read by |
//! |---|---|---|
//! | environment file | [`print_env`] | [`parse_env`] |
//! | config file | [`print_yaml`] | [`parse_yaml`] |
//! | flags | [`print_flags`], [`NodeConfig::to_flags`] | [`parse_flags`], [`parse_flags_text`] |
//! | systemd unit | [`print_systemd`] | [`parse_systemd`] |
//!
//! A value that a form cannot carry is refused, never bent. Pure: text in, text out.

mod config;
mod env;
mod error;
mod flags;
mod node;
mod systemd;
mod yaml;

pub use config::{InitialState, NodeConfig};
pub use env::{EnvSettings, env_name, env_setting_name, env_settings, parse_env, print_env};
pub use error::{Form, RenderError};
pub use flags::{flag_settings, parse_flags, parse_flags_text, print_flags};
pub use node::{live_cluster, node_config};
pub use systemd::{parse_systemd, print_systemd};
pub use yaml::{parse_yaml, print_yaml, yaml_settings};

/// The first line of every printed file.
const HEADER: &str = "# Rendered by quorate. Change the spec and render again.\n";
