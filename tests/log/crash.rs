//! Writes that broke off: at every byte, and with any sector missing.

use std::fs::File;

use bytes::Bytes;
use quorate::node::log::{Log, check};

use crate::support::{
    Place, START, at, contents, entries, entry, mix, overwrite, plain, put_back, read_all,
};

#[test]
fn a_file_that_ends_at_any_byte_keeps_all_that_was_acknowledged_before() {
    let place = Place::new(plain());
    let log = place.create();
    // Where each acknowledged record ends, and what has to be there from then on.
    let mut acknowledged = vec![(START, (0, None))];
    let mut vote = None;
    for index in 0..12 {
        if index % 4 == 3 {
            vote = Some(Bytes::from(format!("vote {index}")));
            place.wait(log.save_vote(vote.clone().unwrap())).unwrap();
            acknowledged.push((START + log.stats().bytes, (index, vote.clone())));
        }
        place.append(&log, vec![entry(1, index)]).unwrap();
        acknowledged.push((START + log.stats().bytes, (index + 1, vote.clone())));
    }
    drop(log);
    let whole = contents(&place.dir());
    let end = acknowledged.last().unwrap().0;
    for length in acknowledged[10].0..=end {
        for zeroed in [false, true] {
            put_back(&place.dir(), &whole);
            let file = File::options().write(true).open(&whole[0].0).unwrap();
            file.set_len(length).unwrap();
            if zeroed {
                file.set_len(end + 512).unwrap();
            }
            let last = acknowledged.iter().rposition(|(end, _)| *end <= length).unwrap();
            let (next, vote) = &acknowledged[last].1;
            // A record is whole without its padding.
            let after = &acknowledged[(last + 1).min(acknowledged.len() - 1)].1;
            let (log, recovered) = Log::open(&place.dir(), place.options)
                .unwrap_or_else(|e| panic!("cut at {length}: {e}"));
            assert!(recovered.bounds.next >= *next, "cut at {length}: {recovered:?}");
            assert!([vote, &after.1].contains(&&recovered.vote), "cut at {length}: {recovered:?}");
            if length.is_multiple_of(16) {
                let next = recovered.bounds.next;
                assert_eq!(read_all(&log, 0..99), entries(1, 0..next));
                place.append(&log, vec![entry(2, next)]).unwrap();
                drop(log);
                let report = check(&place.dir()).unwrap().unwrap();
                assert_eq!((&report.damage, &report.torn_tail), (&None, &None));
                assert_eq!(report.bounds.last, Some(at(2, next)));
            }
        }
    }
}

#[test]
fn any_sectors_of_the_last_group_may_be_missing() {
    let place = Place::new(plain());
    let log = place.create();
    place.append(&log, entries(1, 0..10)).unwrap();
    let synced = START + log.stats().bytes;
    place.append(&log, entries(1, 10..40)).unwrap();
    let end = START + log.stats().bytes;
    drop(log);
    let whole = contents(&place.dir());
    let mut repaired = 0;
    for round in 0..200 {
        put_back(&place.dir(), &whole);
        for sector in synced / 512..=end / 512 {
            if mix(round * 1_000 + sector).is_multiple_of(4) {
                let from = (sector * 512).max(synced);
                let count = usize::try_from((sector + 1) * 512 - from).unwrap();
                overwrite(&whole[0].0, from, &vec![0; count]);
            }
        }
        let (log, recovered) = Log::open(&place.dir(), place.options).unwrap();
        let next = recovered.bounds.next;
        assert!((10..=40).contains(&next), "{recovered:?}");
        assert_eq!(read_all(&log, 0..99), entries(1, 0..next));
        repaired += u32::from(recovered.repaired.is_some());
        // What is written now must never be chained to what was left behind.
        place.append(&log, entries(2, next..next + 3)).unwrap();
        drop(log);
        let report = check(&place.dir()).unwrap().unwrap();
        assert_eq!((report.damage, report.torn_tail), (None, None));
        assert_eq!(report.bounds.next, next + 3);
    }
    assert!(repaired > 150, "only {repaired} rounds had anything to repair");
}

#[test]
fn rubbish_behind_the_last_record_is_cleared_away() {
    let place = Place::new(plain());
    let log = place.create();
    place.append_each(&log, 1, 0..10);
    let end = START + log.stats().bytes;
    drop(log);
    let file = place.files()[0].clone();
    let whole = contents(&place.dir());
    let length = whole[0].1.len() as u64;
    for (round, offset) in [end, end + 8, end + 700, length - 3, length].into_iter().enumerate() {
        put_back(&place.dir(), &whole);
        let rubbish: Vec<u8> = (0..900_u64).map(|n| mix(n ^ offset).to_le_bytes()[0] | 1).collect();
        overwrite(&file, offset, &rubbish);
        let report = check(&place.dir()).unwrap().unwrap();
        let torn = report.torn_tail.unwrap_or_else(|| panic!("round {round}"));
        assert_eq!((&torn.file, torn.offset), (&file, end));
        let (log, recovered) = Log::open(&place.dir(), place.options).unwrap();
        assert_eq!(recovered.repaired, Some(torn));
        place.append(&log, entries(2, 10..12)).unwrap();
        drop(log);
        let log = place.open();
        assert_eq!(read_all(&log, 0..99), [entries(1, 0..10), entries(2, 10..12)].concat());
    }
}

#[test]
fn a_segment_that_was_being_created_does_no_harm() {
    let place = Place::new(plain());
    // Before there was any segment: nobody has heard of this log.
    std::fs::create_dir_all(place.dir()).unwrap();
    std::fs::write(place.dir().join("0000000000000001.log-draft"), b"half a he").unwrap();
    assert!(check(&place.dir()).unwrap().is_none());
    let log = place.create();
    place.append_each(&log, 1, 0..5);
    drop(log);
    let draft = place.dir().join("0000000000000002.log-draft");
    std::fs::write(&draft, vec![7; 3_000]).unwrap();
    let log = place.open();
    assert!(!draft.exists());
    assert_eq!(read_all(&log, 0..9), entries(1, 0..5));
}
