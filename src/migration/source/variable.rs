//! Variables of psql, among them `:range`, which is the engine's.

use super::{Kind, Token};

/// A variable of psql, `:range` among them: `:name`, `:'name'` or `:"name"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The byte of its colon.
    pub at: usize,
    /// It, with its colon.
    pub text: String,
}

/// The variables among `tokens`. What stands between brackets is a slice of an array, and in
/// JSON_OBJECT a colon stands between key and value.
pub fn variables(tokens: &[Token<'_>]) -> Vec<Variable> {
    let mut found = Vec::new();
    // Of what is open, whether a colon within it means something else.
    let mut open = Vec::new();
    let (mut is_json, mut was_colon) = (false, false);
    for pair in tokens.windows(2) {
        let [token, next] = pair else { continue };
        match token.text {
            "[" => open.push(true),
            "(" => open.push(is_json),
            "]" | ")" => drop(open.pop()),
            ":" if !was_colon && open.last() != Some(&true) && is_name(next) => {
                let text = format!(":{}", next.text);
                found.push(Variable { at: token.at, text });
            }
            _ => {}
        }
        was_colon = token.kind == Kind::Colon;
        if !token.is_trivia() {
            is_json = token.is_word("JSON_OBJECT") || token.is_word("JSON_OBJECTAGG");
        }
    }
    found
}

fn is_name(next: &Token<'_>) -> bool {
    matches!(next.kind, Kind::Ident | Kind::QuotedIdent { .. }) || next.text.starts_with('\'')
}
