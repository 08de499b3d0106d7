//! Why a configuration could not be printed or read.

use std::fmt;

use crate::cluster::SettingError;

/// The forms a configuration is printed in and read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// An environment file of `ETCD_*` lines, for systemd's `EnvironmentFile=` or a shell.
    Env,
    /// A config file for `--config-file`.
    Yaml,
    /// Command-line flags.
    Flags,
    /// A systemd unit.
    Systemd,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Env => "an environment file",
            Form::Yaml => "a config file",
            Form::Flags => "a command line",
            Form::Systemd => "a systemd unit",
        })
    }
}

/// Why a configuration could not be printed or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A setting that etcd does not have, or a value that its setting cannot have.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The value is fine, but this form cannot carry it. Take another form, or another value.
    #[error("{name} cannot be written in {form}: {why}")]
    CannotCarry {
        /// The form.
        form: Form,
        /// The setting.
        name: String,
        /// What stands in the way.
        why: &'static str,
    },
    /// The text does not have the form's own syntax.
    #[error("line {line}: {what}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What was found, and what was looked for.
        what: String,
    },
    /// An argument that is no flag, as etcd refuses it.
    #[error("{0:?} is not a flag; write --name=value")]
    NotAFlag(String),
    /// A flag at the end of the command line that wants a value.
    #[error("--{0} wants a value: --{0}=VALUE")]
    MissingValue(String),
}
