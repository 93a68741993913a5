//! Differences between istiod and proxies that istiod does not know of.

use std::time::{Duration, Instant};

use super::PUSHED_AGAIN_AT_MOST;

/// How long the same differences have stood.
#[derive(Debug, Default)]
pub(super) struct LeftBehind {
    same: Vec<String>,
    since: Option<Instant>,
    times: usize,
}

impl LeftBehind {
    /// Whether these have stood for so long, as all that is missing, that istiod has to be made to push again. After that the time
    /// begins anew.
    pub(super) fn has_stood(&mut self, differ: &[String], are_all: bool, long: Duration, now: Instant) -> bool {
        if differ.is_empty() || !are_all || self.same != differ {
            self.same = differ.to_vec();
            self.since = (are_all && !differ.is_empty()).then_some(now);
            return false;
        }
        let has = self.times < PUSHED_AGAIN_AT_MOST && self.since.is_some_and(|since| now.duration_since(since) >= long);
        if has {
            self.times += 1;
            self.since = Some(now);
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3);

    #[test]
    fn only_what_does_not_move_and_is_all_that_is_missing_is_left_behind() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let (one, two) = (["a: cluster x is still there".to_owned()], ["a: cluster y is still there".to_owned()]);
        let mut left = LeftBehind::default();
        assert!(!left.has_stood(&one, true, LONG, at(0)));
        assert!(!left.has_stood(&one, true, LONG, at(2)));
        // It moves: the push is on its way.
        assert!(!left.has_stood(&two, true, LONG, at(4)));
        assert!(!left.has_stood(&two, true, LONG, at(6)));
        assert!(left.has_stood(&two, true, LONG, at(7)));
        assert!(!left.has_stood(&two, true, LONG, at(8)), "what was made to push is given time");
        // Something else is missing, which istiod may still be about.
        assert!(!left.has_stood(&two, false, LONG, at(12)));
        assert!(!left.has_stood(&two, true, LONG, at(13)), "the time begins when it is all that is missing");
        assert!(!left.has_stood(&[], true, LONG, at(20)));
    }

    #[test]
    fn istiod_is_made_to_push_only_so_often() {
        let began = Instant::now();
        let one = ["a: cluster x is still there".to_owned()];
        let mut left = LeftBehind::default();
        let times = (0..30).filter(|n| left.has_stood(&one, true, LONG, began + LONG * *n)).count();
        assert_eq!(times, PUSHED_AGAIN_AT_MOST);
    }
}
