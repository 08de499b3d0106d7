//! The safe start of one node, on the embedded engine and on the real etcd: who may found, who may
//! join, who starts from its data, and the typed reason of everyone else (etcd-contract §2, safety
//! 1-4 and 9-13); its settings, and what it bears once it runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod across;
mod called_as_etcd;
mod config;
mod container;
mod data;
mod engine;
#[path = "../support/files.rs"]
mod files;
mod founding;
mod hostile;
mod inspect;
mod joining;
mod metrics;
mod names;
mod outcomes;
mod page;
#[path = "../support/ports.rs"]
mod ports;
mod settings;
#[path = "../support/small_disk.rs"]
mod small_disk;
mod support;
