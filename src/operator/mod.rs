//! The Kubernetes operator: the definition of its resource and the form of its status so far.

pub mod crd;
pub mod status;
