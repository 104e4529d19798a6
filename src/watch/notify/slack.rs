//! An incoming webhook as Slack, Mattermost and others understand it.

use serde_json::{Value, json};
use url::Url;

use super::channel;
use super::notice::Notice;
use super::post::{self, Post};
use super::words;
use crate::config::ConfigError;
use crate::config::notify as settings;

/// Characters of a header and of a section at most, by Slack's documentation.
const HEADER: usize = 150;
const SECTION: usize = 3000;

#[derive(Debug)]
pub(super) struct Slack {
    url: Url,
}

impl Slack {
    pub(super) fn new(settings: &settings::Slack) -> Result<Self, ConfigError> {
        let name = &settings.name;
        let url = channel::secret(settings.url.as_ref(), settings.url_env.as_ref(), name)?;
        let url = post::parse(url.expose(), name)?;
        Ok(Self { url })
    }

    pub(super) fn post(&self, notice: &Notice) -> Post {
        let headline = notice.headline();
        let body = json!({
            // Where blocks are not understood, and in the notification of a phone.
            "text": escape(&format!("{headline}\n{}", notice.what)),
            "blocks": blocks(notice, &headline),
        });
        Post::json(self.url.clone(), &body)
    }
}

fn blocks(notice: &Notice, headline: &str) -> Vec<Value> {
    let header = words::truncate(headline, HEADER);
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": header, "emoji": false}}),
    ];
    let mut summary = vec![escape(&notice.what)];
    let mut field = |name: &str, value: Option<&String>| {
        if let Some(value) = value {
            summary.push(format!("*{name}:* {}", escape(value)));
        }
    };
    field("Who", notice.who.as_ref());
    field("Statement", notice.statement.as_ref());
    field("Everybody waits for", notice.first_victim.as_ref());
    field("Takes care", notice.acknowledged_by.as_ref());
    field("Cost", notice.impact.as_ref());
    blocks.push(section(&summary.join("\n")));
    for (name, lines) in notice.lists() {
        let lines: Vec<String> = lines
            .iter()
            .map(|line| format!("• {}", escape(line)))
            .collect();
        blocks.push(section(&format!("*{name}*\n{}", lines.join("\n"))));
    }
    let buttons = buttons(notice);
    if !buttons.is_empty() {
        blocks.push(json!({"type": "actions", "elements": buttons}));
    }
    blocks
}

fn section(text: &str) -> Value {
    let text = words::truncate(text, SECTION);
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text}})
}

fn buttons(notice: &Notice) -> Vec<Value> {
    let asks = notice.asks.iter().filter_map(|ask| ask.link.as_ref());
    let asks = asks.map(|link| ("Allow it", link));
    let links = [
        ("Take care of it", notice.acknowledge_link.as_ref()),
        ("Incident", notice.link.as_ref()),
    ];
    let links = links
        .into_iter()
        .filter_map(|(label, link)| Some((label, link?)));
    asks.chain(links)
        .enumerate()
        .map(|(number, (label, link))| {
            json!({
                "type": "button",
                "action_id": format!("open-{number}"),
                "text": {"type": "plain_text", "text": label, "emoji": false},
                "url": link,
            })
        })
        .collect()
}

/// A text that cannot mention people or make links: what sessions call themselves is anybody's
/// choice.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
