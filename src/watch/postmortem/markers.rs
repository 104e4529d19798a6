//! What happened when, as labels above the curves: which there are and where each has room.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};

use super::milestones;
use crate::watch::event::{Act, Event, What};
use crate::watch::incident::Incident;

/// Characters of a label; more would not fit beside others.
const LONGEST: usize = 44;

/// Something on the timeline.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Marker {
    pub(super) at: DateTime<Utc>,
    pub(super) label: String,
    pub(super) color: (u8, u8, u8),
}

/// Where a marker's label goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    /// Of its line, in pixels.
    pub(super) x: i32,
    /// Counted from the curves upwards.
    pub(super) lane: u32,
    /// The label is on the left of its line.
    pub(super) flipped: bool,
}

/// Where one could go.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    x: i32,
    /// Greater is higher; the lowest is not known before all are placed.
    lane: i32,
    flipped: bool,
    width: i32,
}

impl Candidate {
    fn covers(&self, x: i32) -> bool {
        let (left, right) = self.extent();
        left <= x && x <= right
    }

    fn extent(&self) -> (i32, i32) {
        if self.flipped {
            (self.x - self.width, self.x)
        } else {
            (self.x, self.x + self.width)
        }
    }
}

/// The markers of `incident`, in order of time. Those that say the same within a moment are one.
pub(super) fn markers(incident: &Incident) -> Vec<Marker> {
    let mut markers: Vec<(Marker, u32)> = Vec::new();
    let mut named = false;
    for event in &incident.events {
        let Some((what, color)) = what(incident, event, &mut named) else {
            continue;
        };
        let same = markers.iter_mut().rev().find(|(marker, _)| {
            marker.label == what && (event.at - marker.at).num_milliseconds() < 1000
        });
        if let Some((_, count)) = same {
            *count += 1;
            continue;
        }
        let (at, label) = (event.at, what);
        markers.push((Marker { at, label, color }, 1));
    }
    let markers = markers.into_iter().map(|(mut marker, count)| {
        let times = if count > 1 {
            format!(" × {count}")
        } else {
            String::new()
        };
        let what = short(&marker.label);
        marker.label = format!("{} {what}{times}", marker.at.format("%H:%M:%S"));
        marker
    });
    markers.collect()
}

fn what(incident: &Incident, event: &Event, named: &mut bool) -> Option<(String, (u8, u8, u8))> {
    const RED: (u8, u8, u8) = (185, 28, 28);
    const VIOLET: (u8, u8, u8) = (109, 40, 217);
    const GREEN: (u8, u8, u8) = (4, 120, 87);
    const BLUE: (u8, u8, u8) = (29, 78, 216);
    const BROWN: (u8, u8, u8) = (146, 64, 14);
    const GREY: (u8, u8, u8) = (75, 85, 99);
    let marker = match &event.what {
        What::Opened { .. } => ("opened".to_owned(), RED),
        What::Found { finding } if !*named && milestones::is_named(incident, finding) => {
            *named = true;
            let culprit = finding.culprit.as_ref().map(|culprit| {
                let job = culprit.job.as_ref().map(|job| job.name.clone());
                job.unwrap_or_else(|| culprit.application.clone())
            });
            let name = culprit.filter(|name| !name.is_empty());
            let name = name.unwrap_or_else(|| finding.cause.name().replace('_', " "));
            (format!("named: {name}"), VIOLET)
        }
        What::Acted { act, problem, .. } => {
            let act = match (act, problem) {
                (Act::Cancel, None) => "statement cancelled",
                (Act::Terminate, None) => "connection ended",
                (_, Some(_)) => "could not be stopped",
            };
            (act.to_owned(), GREEN)
        }
        What::Asked { .. } => ("asks whether to stop it".to_owned(), BROWN),
        What::Changed { summary, .. } => (format!("change: {summary}"), GREY),
        What::Escalated { level, .. } => (format!("escalated to level {level}"), BROWN),
        What::Permitted { .. } => ("allowed".to_owned(), BLUE),
        What::Acknowledged { .. } => (format!("acknowledged by {}", event.by), BLUE),
        What::AcknowledgementExpired => ("acknowledgement expired".to_owned(), BROWN),
        What::Recovered => ("recovered".to_owned(), GREEN),
        What::Relapsed => ("relapsed".to_owned(), RED),
        What::Resolved { .. } => ("resolved".to_owned(), GREY),
        What::Found { .. } | What::Felt { .. } | What::Notified { .. } | What::Noted { .. } => {
            return None;
        }
    };
    Some(marker)
}

/// On one line, without what XML cannot hold, and not too long.
fn short(text: &str) -> String {
    let text: Vec<_> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .collect();
    let text = text.join(" ");
    if text.chars().count() <= LONGEST {
        return text;
    }
    let short: String = text.chars().take(LONGEST - 1).collect();
    format!("{}…", short.trim_end())
}

/// Places labels of `widths` whose lines are at `xs`, ascending, so that none runs over another or
/// beyond `right`, and no line runs through a label.
///
/// From the right to the left: a label that begins under another's line is put below it, and a line
/// that begins left of a label runs past it. Where the right edge turns one around, those whose lines
/// it covers go below it.
pub(super) fn arrange(xs: &[i32], widths: &[i32], right: i32) -> Vec<Place> {
    let mut placed: Vec<Candidate> = Vec::new();
    let most = xs.len() as i32;
    for (x, width) in xs.iter().zip(widths).rev() {
        let candidate = |lane, flipped| Candidate {
            x: *x,
            lane,
            flipped,
            width: *width,
        };
        // Those nearest to the middle first, and turned around only if it must be.
        let lanes = || (0..=most).flat_map(|lane| [lane, -lane]);
        let straight = lanes().map(|lane| candidate(lane, false));
        let all = straight.chain(lanes().map(|lane| candidate(lane, true)));
        let fits = |place: &Candidate| {
            let (left, end) = place.extent();
            left >= 0 && end <= right
        };
        let clashes = |place: &Candidate| placed.iter().filter(|other| clash(place, other)).count();
        let best = all.filter(fits).min_by_key(clashes);
        // Wider than the picture if none fits.
        placed.push(best.unwrap_or_else(|| candidate(most + 1, false)));
    }
    let lowest = placed.iter().map(|place| place.lane).min().unwrap_or(0);
    let places = placed.iter().rev().map(|place| Place {
        x: place.x,
        lane: (place.lane - lowest).unsigned_abs(),
        flipped: place.flipped,
    });
    places.collect()
}

/// Whether the labels overlap, or one's line runs through the other.
fn clash(a: &Candidate, b: &Candidate) -> bool {
    let ((a_left, a_right), (b_left, b_right)) = (a.extent(), b.extent());
    match a.lane.cmp(&b.lane) {
        // What happens at one moment shares a line.
        Ordering::Less | Ordering::Greater if a.x == b.x => false,
        Ordering::Equal => a_left <= b_right && b_left <= a_right,
        Ordering::Greater => b.covers(a.x),
        Ordering::Less => a.covers(b.x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_room_and_no_line_through_them() {
        for xs in [
            vec![60, 61, 62, 63, 300, 310, 700, 1100, 1150],
            vec![1100; 5],
            vec![70, 400, 1160],
            vec![900, 1000, 1050, 1100, 1150, 1180],
            vec![85, 362, 372, 392, 441, 616, 813, 1133],
        ] {
            let widths = vec![230; xs.len()];
            let places = arrange(&xs, &widths, 1190);
            let candidates = places.iter().map(|place| Candidate {
                x: place.x,
                lane: i32::try_from(place.lane).unwrap(),
                flipped: place.flipped,
                width: 230,
            });
            let candidates: Vec<_> = candidates.collect();
            for (i, a) in candidates.iter().enumerate() {
                let (left, right) = a.extent();
                assert!(left >= 0 && right <= 1190, "{xs:?}: {places:?}");
                for b in &candidates[i + 1..] {
                    assert!(!clash(a, b), "{xs:?}: {a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn a_label_is_one_short_line() {
        assert_eq!(short("a\nb\u{0}c"), "a b c");
        assert_eq!(short(&"x".repeat(100)).chars().count(), LONGEST);
    }
}
