//! The engine's settings: which there are, what values they take.

mod known;
mod value;

pub use known::{
    Kind, Known, Place, find_setting, is_bool_setting, is_known_setting, known_settings,
    near_setting,
};
pub use value::{canonical_value, duration, nanoseconds};

/// Why a setting was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No etcd from 3.4 to 3.7 has this setting. Correct its name.
    #[error("etcd has no setting {name}{}", hint(near.as_deref()))]
    Unknown {
        /// The name as found, without dashes.
        name: String,
        /// The known name that looks most like it.
        near: Option<&'static str>,
    },
    /// The value does not have the form its setting wants.
    #[error("{name}: {value:?} is not {want}")]
    BadValue {
        /// The setting.
        name: String,
        /// Its value.
        value: String,
        /// What it should be, such as `true or false`.
        want: &'static str,
    },
}

fn hint(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}

impl SettingError {
    /// The refusal of a setting that etcd does not have.
    pub fn unknown(name: &str) -> SettingError {
        SettingError::Unknown { name: name.to_owned(), near: near_setting(name) }
    }

    /// The refusal of a value that its setting cannot have.
    pub fn bad(name: &str, value: &str, want: &'static str) -> SettingError {
        SettingError::BadValue { name: name.to_owned(), value: value.to_owned(), want }
    }
}
