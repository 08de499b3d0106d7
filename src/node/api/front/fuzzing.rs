//! The door of the fuzz targets to the [filter](super::filter). Compiled for them only.

use super::filter::Filter;

/// What a client's bytes become, if they come in these pieces and then end.
pub fn pass<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut filter, mut out) = (Filter::new(), Vec::new());
    for piece in pieces {
        filter.pass(piece, &mut out);
    }
    filter.end(&mut out);
    out
}
