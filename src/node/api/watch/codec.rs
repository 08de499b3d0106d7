//! Requests decoded as ever; answers written out of events that are encoded already.

use prost::Message;
use tonic::Status;
use tonic::codec::{DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::node::watch::Answer;
use crate::proto::etcdserverpb::{ResponseHeader, WatchRequest};

/// What is said to a client.
#[derive(Debug)]
pub struct Said {
    pub(super) header: ResponseHeader,
    pub(super) answer: Answer,
}

/// Of the watch method.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codec;

impl tonic::codec::Codec for Codec {
    type Encode = Said;
    type Decode = WatchRequest;
    type Encoder = Codec;
    type Decoder = Codec;

    fn encoder(&mut self) -> Codec {
        Codec
    }

    fn decoder(&mut self) -> Codec {
        Codec
    }
}

impl Encoder for Codec {
    type Item = Said;
    type Error = Status;

    fn encode(&mut self, said: Said, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        said.answer.encode(said.header, to);
        Ok(())
    }
}

impl Decoder for Codec {
    type Item = WatchRequest;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<WatchRequest>, Status> {
        let request = WatchRequest::decode(from);
        // As tonic's own codec has it.
        request.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
