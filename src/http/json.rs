//! JSON texts, read by the letter.
//!
//! serde and serde_json let pass what two readers of one text can understand differently: an array of the
//! right values for an object, the last of two members of one name. Here a text is read in two steps: into
//! values, which names what no type can accept, and then into the type, which names what this one does not
//! ([`Strict`]). Neither serde nor serde_json has a switch for that.

mod strict;
#[cfg(test)]
mod tests;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Number, Value};

use strict::Strict;

/// Deepest nesting of arrays and objects; what the API takes is nested four deep at most, and the details of
/// a reported change as its author likes.
const DEEPEST: usize = 32;

/// What is wrong with a text.
#[derive(Debug, PartialEq)]
pub enum Unfit {
    /// It is not JSON; the message says where.
    NotJson(String),
    /// One of its parts is not as it has to be.
    Part {
        /// Path of the part, as in `lines[2].sku`; empty for the whole.
        path: String,
        /// What is wrong with it.
        message: String,
    },
}

/// Reads `text` as a `T`.
///
/// # Errors
/// [`Unfit`].
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Unfit> {
    let mut json = serde_json::Deserializer::from_str(text);
    let mut track = serde_path_to_error::Track::new();
    let read = Part { depth: 0 }.deserialize(serde_path_to_error::Deserializer::new(
        &mut json, &mut track,
    ));
    let value = read.map_err(|err| {
        if err.is_data() {
            let message = err.to_string();
            // Where in the text it stands is of no use beside the path.
            let message = message
                .split(" at line ")
                .next()
                .unwrap_or_default()
                .to_owned();
            Unfit::Part {
                path: written(&track.path()),
                message,
            }
        } else {
            Unfit::NotJson(err.to_string())
        }
    })?;
    json.end().map_err(|err| Unfit::NotJson(err.to_string()))?;
    serde_path_to_error::deserialize(Strict(value)).map_err(|err| {
        let path = written(err.path());
        let wrong = err.into_inner();
        let path = match (path.as_str(), wrong.member) {
            (_, None) => path,
            ("", Some(member)) => member,
            (parent, Some(member)) => format!("{parent}.{member}"),
        };
        Unfit::Part {
            path,
            message: wrong.message,
        }
    })
}

/// The path of the whole is a lone dot otherwise.
fn written(path: &serde_path_to_error::Path) -> String {
    if path.iter().len() == 0 {
        String::new()
    } else {
        path.to_string()
    }
}

/// Reads any value in which nothing is said twice, nothing is nested too deeply, and no text has a NUL
/// character, which PostgreSQL cannot store.
#[derive(Clone, Copy)]
struct Part {
    depth: usize,
}

impl Part {
    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth == DEEPEST {
            return Err(E::custom(format!("nested more than {DEEPEST} deep")));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part {
    type Value = Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(number.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        without_nul(text)?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            without_nul(&name)?;
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!(
                    "has two members named {name:?}: leave one out"
                )));
            }
            let value = members.next_value_seed(inner)?;
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

fn without_nul<E: Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') {
        return Err(E::custom("NUL characters are not allowed"));
    }
    Ok(())
}
