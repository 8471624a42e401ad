//! A measured rate made better: the longer the span, the less the uncertainty of its ends weighs.

use crate::calibrate::Unsteered;
use crate::clocksource::mask;
use crate::host::Host;
use crate::scale::Scale;
use crate::source::Source;

/// Spans after which the rate is measured again, in nanoseconds. With ends that are uncertain by 40 ns the last one
/// leaves less than 0.001 ppm; what remains is how the host's own clock is steered.
const SPANS: [u64; 4] = [1_000_000_000, 4_000_000_000, 16_000_000_000, 64_000_000_000];
/// A measurement that differs by more from the first one is not a better one: the counter or the host has been disturbed, and it is
/// not for a rate to hide that.
const BELIEVED_PPM: f64 = 500.0;
/// Ends with a wider bracket than this, in nanoseconds, wait for the next update.
const TIGHT: u64 = 5_000;

/// A measurement that is under way.
#[derive(Debug)]
pub(crate) struct Refinement {
    start: Unsteered,
    done: usize,
    /// As it was measured when the source was opened.
    first: Scale,
}

impl Refinement {
    /// Starts now, where the source's rate was measured in the first place.
    pub fn of(source: &Source, host: &Host) -> Option<Refinement> {
        source.rate_is_measured().then(|| Refinement {
            start: Unsteered::take(host, || source.read_direct()),
            done: 0,
            first: source.scale(),
        })
    }

    /// The better rate, where the next span is over.
    pub fn step(&mut self, source: &Source, host: &Host) -> Option<Scale> {
        let span = *SPANS.get(self.done)?;
        if host.boot() < self.start.pair.boot.saturating_add(span) {
            return None;
        }
        let end = Unsteered::take(host, || source.read_direct());
        if end.pair.bracket > TIGHT {
            return None;
        }
        self.done += 1;
        let scale = self.start.scale_to(&end, mask(source.width()))?;
        (scale.ppm_from(self.first).abs() <= BELIEVED_PPM).then_some(scale)
    }
}
