//! What the store does (`take.lua`), without a server: for simulations, and to compare the two.

#[cfg(test)]
mod tests;

use ahash::AHashMap;

use super::super::algorithm::{Algorithm, CalendarPeriod, Rule};
use super::ask::{Ask, Grant, Need, SharedKey};

/// A store. It is given the time, which is a clock of its own.
#[derive(Debug, Default)]
pub(super) struct Model(AHashMap<SharedKey, State>);

/// What is kept of a key, by its algorithm.
#[derive(Debug, Clone, Copy)]
enum State {
    /// When the window ends, or which period it is; how much is spent.
    Window(u64, u64),
    /// Which window, what was spent in the one before, and in it.
    Sliding(u64, u64, u64),
    /// Tokens that were used, at that time.
    Bucket(u64, f64),
}

/// A key as it stands when it is asked about.
struct View {
    room: f64,
    reset: u64,
    ends: u64,
    /// How far its time is ahead of the clock.
    late: u64,
    state: State,
    /// Whether it is to be written though nothing is taken.
    is_changed: bool,
}

impl Model {
    /// Answers questions about one or several keys at once.
    pub(super) fn take(&mut self, asks: &[Ask], now: u64) -> Vec<Grant> {
        let views: Vec<View> = asks.iter().map(|ask| self.view(ask, now)).collect();
        let is_met = |ask: &Ask, view: &View| match ask.need {
            Need::Tokens(need) => view.room >= need.max(1) as f64,
            Need::Nothing => true,
        };
        let are_all_met = asks.iter().zip(&views).all(|(ask, view)| is_met(ask, view));
        let answers = asks.iter().zip(views).map(|(ask, view)| {
            let taken = match ask.need {
                Need::Tokens(need) if are_all_met => {
                    let room = view.room.floor() as u64;
                    let given = need.max(ask.urgent.min(room)).max(room / ask.share.max(1));
                    ask.want.min(given)
                }
                _ => 0,
            };
            let wait = match (ask.need, is_met(ask, &view)) {
                (Need::Tokens(need), false) => wait(&ask.rule, &view, need.max(1)).max(1),
                _ => 0,
            };
            if view.is_changed || taken > 0 {
                self.0.insert(ask.key, spend(view.state, taken));
            }
            Grant {
                taken,
                left: (view.room - taken as f64).floor().max(0.0) as u64,
                reset: view.reset,
                wait,
                ends: view.ends,
            }
        });
        answers.collect()
    }

    /// Forgets what the server would have let expire. All keys are of one rule.
    pub(super) fn expire(&mut self, rule: &Rule, now: u64) {
        self.0.retain(|_, state| match *state {
            State::Window(ends, _) => now < ends,
            State::Sliding(index, ..) => now < (index + 2) * rule.window,
            State::Bucket(at, used) => now < at + spread(used, rule).ceil() as u64,
        });
    }

    /// Keys that something is kept of.
    pub(super) fn keys(&self) -> usize {
        self.0.len()
    }

    fn view(&self, ask: &Ask, now: u64) -> View {
        let known = self.0.get(&ask.key).copied();
        let ask = &Ask {
            back: if now < ask.before { ask.back } else { 0 },
            ..*ask
        };
        match ask.rule.algorithm {
            Algorithm::FixedWindow => fixed(ask, known, now),
            Algorithm::Calendar(period) => calendar(ask, known, period, now),
            Algorithm::SlidingWindow => sliding(ask, known, now),
            Algorithm::TokenBucket => bucket(ask, known, now),
        }
    }
}

fn fixed(ask: &Ask, known: Option<State>, now: u64) -> View {
    let window = ask.rule.window;
    let (ends, count, back) = match known {
        Some(State::Window(ends, count))
            if (now + 1..=now + 2 * window).contains(&ends) && count > 0 =>
        {
            (ends, count, ask.back)
        }
        _ => (now + window, 0, 0),
    };
    let count = count.saturating_sub(back) + ask.owed;
    View {
        room: ask.rule.limit as f64 - count as f64,
        reset: ends - now,
        ends,
        late: 0,
        state: State::Window(ends, count),
        is_changed: ask.owed + back > 0,
    }
}

fn calendar(ask: &Ask, known: Option<State>, period: CalendarPeriod, now: u64) -> View {
    let (number, rest) = (period.number, period.left);
    let (number, count, back) = match known {
        Some(State::Window(last, count)) if last >= number => (last, count, ask.back),
        _ => (number, 0, 0),
    };
    let count = count.saturating_sub(back) + ask.owed;
    View {
        room: ask.rule.limit as f64 - count as f64,
        reset: rest,
        ends: now + rest,
        late: 0,
        state: State::Window(number, count),
        is_changed: ask.owed + back > 0,
    }
}

fn sliding(ask: &Ask, known: Option<State>, now: u64) -> View {
    let window = ask.rule.window;
    let own = now / window;
    let (index, last, current, back) = match known {
        Some(State::Sliding(of, last, current)) if of == own || of == own + 1 => {
            (of, last, current, ask.back)
        }
        Some(State::Sliding(of, _, current)) if of + 1 == own => (own, current, 0, 0),
        _ => (own, 0, 0, 0),
    };
    let current = current.saturating_sub(back) + ask.owed;
    let ends = (index + 1) * window;
    let elapsed = now.saturating_sub(index * window);
    let faded = last as f64 * (window - elapsed) as f64 / window as f64;
    View {
        room: ask.rule.limit as f64 - current as f64 - faded,
        reset: ends - now,
        ends,
        late: (index * window).saturating_sub(now),
        state: State::Sliding(index, last, current),
        is_changed: ask.owed + back > 0,
    }
}

fn bucket(ask: &Ask, known: Option<State>, now: u64) -> View {
    let Rule {
        limit,
        window,
        burst,
        ..
    } = ask.rule;
    // In the order of the script, for the last digit's sake.
    let regained = |micros: u64| micros as f64 * limit as f64 / window as f64;
    let (at, used, back) = match known {
        Some(State::Bucket(at, used)) if at <= now + window => (at, used, ask.back),
        _ => (now, 0.0, 0),
    };
    let late = at.saturating_sub(now);
    let out = (now + window).saturating_sub(ask.before);
    let back = (back as f64 - regained(out)).max(0.0);
    let used = (used - regained(now + late - at)).max(0.0);
    let used = (used - back).max(0.0) + ask.owed as f64;
    View {
        room: burst as f64 - used,
        reset: late + spread(used - used.ceil() + 1.0, &ask.rule).ceil() as u64,
        ends: now + window,
        late,
        state: State::Bucket(now + late, used),
        is_changed: ask.owed as f64 + back > 0.0,
    }
}

/// Microseconds in which so many tokens come back.
fn spread(tokens: f64, rule: &Rule) -> f64 {
    tokens * rule.window as f64 / rule.limit as f64
}

fn spend(state: State, taken: u64) -> State {
    match state {
        State::Window(ends, count) => State::Window(ends, count + taken),
        State::Sliding(index, last, current) => State::Sliding(index, last, current + taken),
        State::Bucket(at, used) => State::Bucket(at, used + taken as f64),
    }
}

/// Microseconds until a need that is not met would be.
fn wait(rule: &Rule, view: &View, need: u64) -> u64 {
    match view.state {
        State::Window(..) => view.reset,
        State::Sliding(_, last, current) if current + need <= rule.limit => {
            let over = need as f64 - view.room;
            view.late + (over * rule.window as f64 / last as f64).ceil() as u64
        }
        State::Sliding(_, _, current) => {
            let over = (current + need - rule.limit) as f64;
            view.reset + (rule.window as f64 * over / current as f64).ceil() as u64
        }
        State::Bucket(_, used) => {
            let over = used + need as f64 - rule.burst as f64;
            view.late + spread(over, rule).ceil() as u64
        }
    }
}
