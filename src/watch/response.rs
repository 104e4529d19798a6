//! What people do to incidents. Each makes an event; who calls appends it to a log or stores it.

use uuid::Uuid;

use super::event::{Event, Impact, What};
use super::incident::Incident;

/// Characters that a note may have.
pub const LONGEST_NOTE: usize = 4_000;
/// Characters that somebody's name may have.
pub const LONGEST_NAME: usize = 100;

/// Why something cannot be done to an incident.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is over.
    #[error("incident {0} is over; a note can still be added, and `report` writes its postmortem")]
    Over(Uuid),
    /// There is nothing to allow.
    #[error("the watch asks for nothing in incident {0} that has not been allowed")]
    NoQuestion(Uuid),
    /// Nobody would know who.
    #[error("say who you are, in one line of at most {LONGEST_NAME} characters")]
    Name,
    /// Nobody would know what.
    #[error("a note has words, at most {LONGEST_NOTE} characters")]
    Note,
}

/// `by` takes care. `via` is the way it was said: `cli`, `http`, `link`.
///
/// # Errors
/// [`Refusal::Over`], [`Refusal::Name`].
pub fn acknowledge(incident: &Incident, by: &str, via: &str) -> Result<Event, Refusal> {
    require_open(incident)?;
    let what = What::Acknowledged {
        via: via.to_owned(),
    };
    Ok(Event::now(incident.id, name(by)?, what))
}

/// `by` has something to say, also when it is over.
///
/// # Errors
/// [`Refusal::Name`], [`Refusal::Note`].
pub fn note(incident: &Incident, by: &str, text: &str) -> Result<Event, Refusal> {
    let text = text.trim();
    let control = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.is_empty() || text.chars().count() > LONGEST_NOTE || text.contains(control) {
        return Err(Refusal::Note);
    }
    let what = What::Noted {
        text: text.to_owned(),
    };
    Ok(Event::now(incident.id, name(by)?, what))
}

/// `by` allows what the watch asked for last: it is done, once.
///
/// # Errors
/// [`Refusal::Over`], [`Refusal::NoQuestion`], [`Refusal::Name`].
pub fn allow(incident: &Incident, by: &str) -> Result<Event, Refusal> {
    require_open(incident)?;
    let ask = incident
        .questions()
        .next_back()
        .ok_or(Refusal::NoQuestion(incident.id))?;
    let what = What::Permitted { ask: ask.id };
    Ok(Event::now(incident.id, name(by)?, what))
}

/// `by` says that it is over, at a cost of `impact`.
///
/// # Errors
/// [`Refusal::Over`], [`Refusal::Name`].
pub fn resolve(incident: &Incident, by: &str, impact: Impact) -> Result<Event, Refusal> {
    require_open(incident)?;
    let what = What::Resolved {
        impact: Box::new(impact),
    };
    Ok(Event::now(incident.id, name(by)?, what))
}

fn require_open(incident: &Incident) -> Result<(), Refusal> {
    if incident.is_open() {
        Ok(())
    } else {
        Err(Refusal::Over(incident.id))
    }
}

fn name(by: &str) -> Result<String, Refusal> {
    let by = by.trim();
    if by.is_empty() || by.chars().count() > LONGEST_NAME || by.contains(char::is_control) {
        return Err(Refusal::Name);
    }
    Ok(by.to_owned())
}
