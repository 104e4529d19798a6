//! Variables of psql, among them `:range`, which is the engine's.

use super::{Kind, Token};

/// A variable of psql, `:range` among them: `:name`, `:'name'`, `:"name"` or `:{?name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The byte of its colon.
    pub at: usize,
    /// It, with its colon; `:{` of the last form.
    pub text: String,
}

/// The variables among `tokens`. What stands between brackets is a slice of an array, and in
/// JSON_OBJECT a colon stands between key and value.
pub fn variables(tokens: &[Token<'_>]) -> Vec<Variable> {
    let mut found = Vec::new();
    let mut colons = Colons::default();
    for pair in tokens.windows(2) {
        let [token, next] = pair else { continue };
        if colons.pass(token) {
            found.extend(named(next).then(|| Variable {
                at: token.at,
                text: format!(":{}", next.text),
            }));
        }
    }
    found
}

/// Whether `next` is what follows the colon of a variable.
pub(super) fn named(next: &Token<'_>) -> bool {
    matches!(next.kind, Kind::Word | Kind::Quoted | Kind::Mark('{'))
        || next.kind == Kind::Text && next.text.starts_with('\'')
}

/// Tells the colon of a variable from others.
#[derive(Default)]
pub(super) struct Colons {
    /// Of what is open, whether a colon within it means something else.
    open: Vec<bool>,
    /// Whether the word before was JSON_OBJECT or its aggregate.
    is_json: bool,
    was_colon: bool,
}

impl Colons {
    /// Passes `token`; whether it is a colon behind which a variable's name could stand.
    pub(super) fn pass(&mut self, token: &Token<'_>) -> bool {
        let is_colon = token.kind == Kind::Mark(':');
        let can_be_variable = is_colon && !self.was_colon && self.open.last() != Some(&true);
        self.was_colon = is_colon;
        match token.kind {
            Kind::Mark('[') => self.open.push(true),
            Kind::Mark('(') => self.open.push(self.is_json),
            Kind::Mark(']' | ')') => {
                self.open.pop();
            }
            _ => {}
        }
        if !token.is_trivia() {
            self.is_json = token.is_word("JSON_OBJECT") || token.is_word("JSON_OBJECTAGG");
        }
        can_be_variable
    }
}
