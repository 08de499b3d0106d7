//! A snapshot as it comes in: its records in chunks, and its end in pieces.
//!
//! What is taken can be given on: offered again it is taken again, and has the same hash and the
//! same blobs. What is refused is refused without a panic, also where every checksum is right, and
//! where the hash that is told is that of the records.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use quorate::node::raft::fuzzing::{Parcel, Taken};
use quorate_fuzz::input::Input;

fuzz_target!(|data: &[u8]| {
    let Some((how, data)) = data.split_first() else { return };
    let Ok(Some(taken)) = Taken::receive(parcel(data), how & 1 != 0) else { return };
    let hash = taken.hash();
    for each in [1, 100] {
        let offered = taken.offer(each).expect("what was taken can be offered");
        let again = Taken::receive(offered, false).expect("and is taken").expect("as a whole");
        assert_eq!(again.hash(), hash);
        assert_eq!(again.head(), taken.head());
    }
});

/// Messages, each after a byte that says which it is, and whether its sum is to be made right.
fn parcel(data: &[u8]) -> Parcel {
    let (mut input, mut parcel) = (Input(data), Parcel::default());
    while !input.is_empty() {
        let (what, mut bytes) = (input.u8(), input.piece().to_vec());
        let is_chunk = what & 1 == 0;
        if what & 2 != 0 {
            if is_chunk { seal_chunk(&mut bytes) } else { seal_piece(&mut bytes) }
        }
        let to = if is_chunk { &mut parcel.chunks } else { &mut parcel.pieces };
        to.push(Bytes::from(bytes));
    }
    parcel
}

fn seal_chunk(bytes: &mut [u8]) {
    if let Some((sum, rest)) = bytes.split_first_chunk_mut::<4>() {
        *sum = crc32c::crc32c(rest).to_le_bytes();
    }
}

/// One piece that is the whole: its place, its sum and its length.
fn seal_piece(bytes: &mut [u8]) {
    if bytes.len() < 44 {
        return;
    }
    let (head, body) = bytes.split_at_mut(44);
    let length = u32::try_from(body.len()).expect("an input is short");
    head[16..24].copy_from_slice(&0_u64.to_le_bytes());
    head[24..32].copy_from_slice(&1_u64.to_le_bytes());
    head[32..40].copy_from_slice(&u64::from(crc32c::crc32c(body)).to_le_bytes());
    head[40..44].copy_from_slice(&length.to_le_bytes());
}
