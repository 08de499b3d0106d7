//! Waits for what nodes have to say, so that they need not be asked all the time.

use std::time::Duration;

use futures_util::future::select_all;

use super::look::WORD_LIMIT;
use crate::client::peer;
use crate::clock::Clock;

/// How long a node may hold back an answer that brings nothing new.
const WAIT: Duration = Duration::from_secs(20);

/// The words of some nodes: the page that each stands on, and its mark there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(pub(super) Vec<(String, String)>);

impl Words {
    /// Waits until one of them says something else, or is not heard any more.
    pub async fn until_news(self) {
        let each = self.0.into_iter().map(|(url, mark)| Box::pin(until_other(url, mark)));
        select_all(each).await;
    }
}

async fn until_other(url: String, mark: String) {
    loop {
        let begun = Clock.monotonic();
        let Ok(None) = peer::news(&url, &mark, WAIT, WORD_LIMIT).await else { return };
        // Nobody who answers sooner makes us ask all the time.
        tokio::time::sleep(WAIT.saturating_sub(Clock.monotonic().since(begun))).await;
    }
}
