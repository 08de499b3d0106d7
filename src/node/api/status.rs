//! Faults as gRPC carries them.

use tonic::Status;

use crate::node::fault::{Code, Fault};

impl From<Fault> for Status {
    fn from(fault: Fault) -> Status {
        Status::new(code(fault.code()), fault.to_string())
    }
}

fn code(code: Code) -> tonic::Code {
    match code {
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::OutOfRange => tonic::Code::OutOfRange,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::Cancelled => tonic::Code::Cancelled,
        Code::Unimplemented => tonic::Code::Unimplemented,
        Code::Internal => tonic::Code::Internal,
        Code::DataLoss => tonic::Code::DataLoss,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        Code::Unknown => tonic::Code::Unknown,
    }
}

/// What tonic answers to a message beyond the limit, in grpc-go's words and with its code: a
/// client retries by the code. Everything else stays as it is.
pub fn received(status: Status) -> Status {
    if status.code() != tonic::Code::OutOfRange {
        return status;
    }
    let Some(rest) = status.message().strip_prefix("Error, decoded message length too large: ")
    else {
        return status;
    };
    let mut numbers = rest.split(|it: char| !it.is_ascii_digit()).filter(|it| !it.is_empty());
    let (found, most) = (numbers.next().unwrap_or("?"), numbers.next().unwrap_or("?"));
    let text = format!("grpc: received message larger than max ({found} vs. {most})");
    Status::new(tonic::Code::ResourceExhausted, text)
}
