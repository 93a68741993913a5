//! Differences between istiod and proxies that istiod does not know of.

use std::time::{Duration, Instant};

use super::PUSHED_AGAIN_AT_MOST;

/// How long the same differences have stood.
#[derive(Debug, Default)]
pub(super) struct LeftBehind {
    same: Option<(Vec<String>, Instant)>,
    times: usize,
}

impl LeftBehind {
    /// Whether these have stood for so long that istiod has to be made to push again; none where something else is missing as well.
    /// After that the time begins anew.
    pub(super) fn has_stood(&mut self, differ: &[String], long: Duration, now: Instant) -> bool {
        match &mut self.same {
            Some((same, since)) if same == differ => {
                let has = !differ.is_empty() && self.times < PUSHED_AGAIN_AT_MOST && now.duration_since(*since) >= long;
                if has {
                    self.times += 1;
                    *since = now;
                }
                has
            }
            _ => {
                self.same = Some((differ.to_vec(), now));
                false
            }
        }
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
        assert!(!left.has_stood(&one, LONG, at(0)));
        assert!(!left.has_stood(&one, LONG, at(2)));
        // It moves: the push is on its way.
        assert!(!left.has_stood(&two, LONG, at(4)));
        assert!(!left.has_stood(&two, LONG, at(6)));
        assert!(left.has_stood(&two, LONG, at(7)));
        assert!(!left.has_stood(&two, LONG, at(8)), "what was made to push is given time");
        // Something else is missing, which istiod may still be about.
        assert!(!left.has_stood(&[], LONG, at(12)));
        assert!(!left.has_stood(&[], LONG, at(16)));
        assert!(!left.has_stood(&two, LONG, at(17)), "the time begins when it is all that is missing");
        assert!(left.has_stood(&two, LONG, at(20)));
    }

    #[test]
    fn istiod_is_made_to_push_only_so_often() {
        let began = Instant::now();
        let one = ["a: cluster x is still there".to_owned()];
        let mut left = LeftBehind::default();
        let times = (0..30).filter(|n| left.has_stood(&one, LONG, began + LONG * *n)).count();
        assert_eq!(times, PUSHED_AGAIN_AT_MOST);
    }
}
