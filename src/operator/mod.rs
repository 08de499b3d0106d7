//! The Kubernetes operator: the definition of its resource so far.

pub mod crd;
