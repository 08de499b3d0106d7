//! What is broken for good is refused, named, and left alone.

use std::fs;

use quorate::node::log::{Log, LogError, check, read_ids};

use crate::support::{
    Place, SMALL, START, at, contents, entries, entry, overwrite, plain, put_back, read_all,
    refused,
};

#[test]
fn a_flipped_byte_anywhere_refuses() {
    let place = Place::new(plain());
    let log = place.create();
    let mut starts = vec![START];
    for index in 0..9 {
        place.append(&log, vec![entry(1, index)]).unwrap();
        starts.push(START + log.stats().bytes);
    }
    drop(log);
    let file = place.files()[0].clone();
    let whole = contents(&place.dir());
    // The last record as well: all its sectors are there, so it was whole once.
    for n in [0, 1, 5, 8] {
        for offset in starts[n]..starts[n + 1] {
            put_back(&place.dir(), &whole);
            let byte = whole[0].1[usize::try_from(offset).unwrap()];
            overwrite(&file, offset, &[byte ^ 0x10]);
            let spot = refused(&place);
            assert_eq!((&spot.file, spot.offset), (&file, starts[n]), "byte {offset}: {spot}");
            let report = check(&place.dir()).unwrap().unwrap();
            assert_eq!(report.damage, Some(spot));
            assert_eq!(report.bounds.next, n as u64);
        }
    }
}

#[test]
fn a_hole_in_what_was_durable_refuses() {
    let place = Place::new(plain());
    let log = place.create();
    place.append_each(&log, 1, 0..20);
    let end = START + log.stats().bytes;
    place.append(&log, entries(1, 20..21)).unwrap();
    drop(log);
    let file = place.files()[0].clone();
    let whole = contents(&place.dir());
    for sector in 0..end / 512 {
        put_back(&place.dir(), &whole);
        let from = (sector * 512).max(START);
        overwrite(&file, from, &vec![0; usize::try_from((sector + 1) * 512 - from).unwrap()]);
        let spot = refused(&place);
        assert!(spot.offset < (sector + 1) * 512, "sector {sector}: {spot}");
        assert!(spot.what.contains("was written later"), "{spot}");
    }
}

#[test]
fn a_missing_or_foreign_segment_refuses_whichever_it_is() {
    let place = Place::new(SMALL);
    let log = place.create();
    place.append_each(&log, 1, 0..80);
    drop(log);
    let whole = contents(&place.dir());
    assert!(whole.len() > 4);
    for (path, _) in &whole {
        put_back(&place.dir(), &whole);
        fs::remove_file(path).unwrap();
        let spot = refused(&place);
        assert_eq!((&spot.file, spot.offset), (path, 0));
        assert_eq!(spot.what, "the segment is missing");
    }
    // A whole segment, but with the name of another one.
    put_back(&place.dir(), &whole);
    fs::copy(&whole[1].0, &whole[2].0).unwrap();
    assert_eq!(refused(&place).file, whole[2].0);
    // One that ends early, which only the last may.
    put_back(&place.dir(), &whole);
    fs::File::options().write(true).open(&whole[1].0).unwrap().set_len(900).unwrap();
    let spot = refused(&place);
    assert_eq!(spot.file, whole[1].0);
    assert!((START..900).contains(&spot.offset), "{spot}");
}

#[test]
fn a_bad_head_of_a_segment_refuses_and_a_newer_format_is_told_apart() {
    let place = Place::new(SMALL);
    let log = place.create();
    place.append_each(&log, 1, 0..40);
    drop(log);
    let whole = contents(&place.dir());
    for (path, bytes) in &whole {
        for offset in 0..START {
            put_back(&place.dir(), &whole);
            let byte = bytes[usize::try_from(offset).unwrap()];
            overwrite(path, offset, &[byte ^ 1]);
            let spot = refused(&place);
            assert_eq!((&spot.file, spot.offset), (path, 0));
            assert!(matches!(read_ids(&place.dir()), Err(LogError::Damaged(_))));
        }
    }
    put_back(&place.dir(), &whole);
    let (path, bytes) = &whole[0];
    let mut head = bytes[..76].to_vec();
    head[8] = 2;
    let sum = crc32c::crc32c(&head);
    overwrite(path, 0, &head);
    overwrite(path, 76, &sum.to_le_bytes());
    let error = Log::open(&place.dir(), SMALL).unwrap_err();
    assert!(matches!(error, LogError::Version { version: 2, .. }), "{error}");
}

/// What a new segment says again was durable before the segment had its name. Taken for a torn write
/// it would be repaired, and the purge that explains missing segments forgotten.
#[test]
fn what_a_segment_says_again_is_never_a_torn_write() {
    let place = Place::new(SMALL);
    let log = place.create();
    place.wait(log.save_vote("a vote".into())).unwrap();
    place.append_each(&log, 1, 0..80);
    drop(log);
    let (path, mut bytes) = contents(&place.dir()).pop().unwrap();
    let restated = u64::from_le_bytes(bytes[64..72].try_into().unwrap());
    assert!(restated > 0);
    // A crash right after it was begun.
    bytes[usize::try_from(START + restated).unwrap()..].fill(0);
    for offset in START..START + restated {
        let at = usize::try_from(offset).unwrap();
        fs::write(&path, &bytes).unwrap();
        // Bytes that pad a record are nobody's.
        overwrite(&path, offset, &[bytes[at] ^ 1]);
        let is_noticed = check(&place.dir()).unwrap().unwrap().damage.is_some();
        assert!(is_noticed || bytes[at] == 0, "byte {offset}");
        assert!(check(&place.dir()).unwrap().unwrap().torn_tail.is_none(), "byte {offset}");
    }
    bytes[usize::try_from(START).unwrap()..].fill(0);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(refused(&place).offset, START);
    // More than a file holds is no more than all of it.
    bytes[64..72].fill(0xff);
    let sum = crc32c::crc32c(&bytes[..76]).to_le_bytes();
    bytes[76..80].copy_from_slice(&sum);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(refused(&place).offset, START);
}

/// Segments that were purged go at the next start if they could not go before. Found by the fuzzer:
/// then the purge and the vote that only they tell of went with them.
#[test]
fn what_only_purged_segments_say_is_said_again_before_they_go() {
    let place = Place::new(SMALL);
    let log = place.create();
    place.wait(log.save_vote("a vote".into())).unwrap();
    place.append_each(&log, 1, 0..40);
    let before = contents(&place.dir());
    place.wait(log.purge(at(1, 39))).unwrap();
    place.append_each(&log, 1, 40..80);
    drop(log);
    // As if nothing had been removed, up to a last segment that says nothing again.
    let mut all: std::collections::BTreeMap<_, _> = before.into_iter().collect();
    all.extend(contents(&place.dir()));
    let mut last = all.last_entry().unwrap();
    let bytes = last.get_mut();
    let first = u64::from_le_bytes(bytes[48..56].try_into().unwrap());
    bytes[64..72].fill(0);
    let sum = crc32c::crc32c(&bytes[..76]).to_le_bytes();
    bytes[76..80].copy_from_slice(&sum);
    bytes[usize::try_from(START).unwrap()..].fill(0);
    put_back(&place.dir(), &all.into_iter().collect::<Vec<_>>());

    let log = place.open();
    place.append_each(&log, 1, first..first + 1);
    place.wait(log.purge(at(1, first))).unwrap();
    drop(log);
    let (log, recovered) = Log::open(&place.dir(), SMALL).unwrap();
    assert_eq!(recovered.vote.as_deref(), Some(&b"a vote"[..]));
    assert_eq!(recovered.bounds.purged, Some(at(1, first)));
    drop(log);
    assert_eq!(place.files().len(), 1);
}

#[test]
fn a_read_from_the_disk_notices_damage_as_well() {
    let place = Place::new(SMALL);
    let log = place.create();
    place.append_each(&log, 1, 0..100);
    let file = place.files()[0].clone();
    let byte = fs::read(&file).unwrap()[300];
    overwrite(&file, 300, &[byte ^ 4]);
    match log.read_blocking(0..50, 1 << 20) {
        Err(LogError::Damaged(spot)) => assert_eq!(spot.file, file),
        other => panic!("{other:?}"),
    }
    assert_eq!(read_all(&log, 60..100), entries(1, 60..100));
}
