//! A product as a file describes it, checked field by field.

use std::collections::HashSet;

use super::columns::Row;
use super::money::Currency;

const MOST_NAME: usize = 255;
/// SKUs and categories travel in requests, which take at most 200 bytes of them.
const MOST_KEY: usize = 200;
const MOST_DESCRIPTION: usize = 64 * 1024;
const MOST_URL: usize = 2048;
const MOST_TAGS: usize = 250;
const MOST_OPTIONS: usize = 3;
/// Variants, and images, of one product.
pub(super) const MOST_PARTS: usize = 2000;

/// A product.
pub(super) struct Draft {
    /// The line of its first row.
    pub(super) line: u64,
    pub(super) handle: String,
    pub(super) title: String,
    pub(super) description: String,
    pub(super) vendor: String,
    pub(super) category: String,
    pub(super) tags: Vec<String>,
    pub(super) published: bool,
    pub(super) variants: Vec<DraftVariant>,
    pub(super) images: Vec<DraftImage>,
    /// The first row names the options, the rows below only have their values.
    option_names: Vec<String>,
}

/// A variant.
pub(super) struct DraftVariant {
    pub(super) sku: String,
    pub(super) title: String,
    pub(super) options: serde_json::Value,
    pub(super) price_minor: i64,
    pub(super) compare_at_minor: Option<i64>,
    pub(super) stock: i32,
    pub(super) barcode: Option<String>,
    pub(super) grams: Option<i32>,
    pub(super) image_url: Option<String>,
}

/// An image.
pub(super) struct DraftImage {
    pub(super) position: i32,
    pub(super) url: String,
    pub(super) alt: String,
}

/// Whether `handle` can stand in an address.
pub(super) fn handle(row: &Row<'_>) -> Result<String, String> {
    let handle = row.text("Handle", MOST_NAME)?;
    let unfit = |c: char| c.is_whitespace() || c.is_control() || "/?#%\\".contains(c);
    if handle.is_empty() {
        return Err("Handle is empty".into());
    }
    if handle.contains(unfit) {
        return Err(format!(
            "Handle `{handle}` cannot stand in an address: use letters, digits and -"
        ));
    }
    Ok(handle.to_owned())
}

impl Draft {
    /// The product that begins with `row`, without the variant and the image of that row.
    pub(super) fn begin(handle: String, row: &Row<'_>) -> Result<Self, String> {
        let description = nanohtml2text::html2text(row.get("Body (HTML)"));
        let description = description.replace("\r\n", "\n").replace('\0', "");
        if description.chars().count() > MOST_DESCRIPTION {
            return Err(format!(
                "Body (HTML) is longer than {MOST_DESCRIPTION} characters"
            ));
        }
        let option_names =
            (1..=MOST_OPTIONS).map(|i| row.text(&format!("Option{i} Name"), MOST_NAME));
        Ok(Self {
            line: row.line,
            handle,
            title: row.text("Title", MOST_NAME)?.to_owned(),
            description: description.trim().to_owned(),
            vendor: row.text("Vendor", MOST_NAME)?.to_owned(),
            category: key("Type", row.get("Type"))?.to_owned(),
            tags: tags(row)?,
            published: published(row)?,
            variants: Vec::new(),
            images: Vec::new(),
            option_names: option_names
                .map(|name| name.map(str::to_owned))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Adds the variant of `row`, if it has one.
    pub(super) fn add_variant(&mut self, row: &Row<'_>, currency: Currency) -> Result<(), String> {
        let described = ["Option1 Value", "Variant Price", "Variant SKU"];
        if described.iter().all(|column| row.get(column).is_empty()) {
            return Ok(());
        }
        if self.variants.len() == MOST_PARTS {
            return Err(format!("a product has at most {MOST_PARTS} variants"));
        }
        let options = self.options(row)?;
        let sku = match row.get("Variant SKU") {
            "" => derived_sku(&self.handle, &options),
            // Spreadsheets protect leading zeros by an apostrophe in front.
            sku => sku.trim_start_matches('\'').to_owned(),
        };
        key("Variant SKU", &sku)?;
        if self.variants.iter().any(|other| other.sku == sku) {
            return Err(format!("the product has a variant with SKU `{sku}` above"));
        }
        let price = row.get("Variant Price");
        if price.is_empty() {
            return Err("Variant Price is empty".into());
        }
        let amount = |column, text: &str| {
            let minor = currency.minor_units(text);
            minor.map_err(|why| format!("{column} {why}"))
        };
        let compare_at = Some(row.get("Variant Compare At Price")).filter(|text| !text.is_empty());
        let titles: Vec<&str> = options.iter().map(|(_, value)| *value).collect();
        let title = titles.join(" / ");
        let object = options.iter().map(|(name, value)| {
            let (name, value) = ((*name).to_owned(), (*value).to_owned());
            (name, serde_json::Value::String(value))
        });
        let variant = DraftVariant {
            sku,
            title,
            options: serde_json::Value::Object(object.collect()),
            price_minor: amount("Variant Price", price)?,
            compare_at_minor: compare_at
                .map(|text| amount("Variant Compare At Price", text))
                .transpose()?,
            stock: whole(row, "Variant Inventory Qty")?.unwrap_or(0),
            barcode: Some(
                row.text("Variant Barcode", MOST_NAME)?
                    .trim_start_matches('\''),
            )
            .filter(|barcode| !barcode.is_empty())
            .map(str::to_owned),
            grams: whole(row, "Variant Grams")?,
            image_url: url(row, "Variant Image")?,
        };
        self.variants.push(variant);
        Ok(())
    }

    /// The options of a variant as pairs of name and value; none for Shopify's placeholder for a
    /// product without options.
    fn options<'a>(&'a self, row: &Row<'a>) -> Result<Vec<(&'a str, &'a str)>, String> {
        let mut options = Vec::new();
        for (i, name) in self.option_names.iter().enumerate() {
            let value = row.text(&format!("Option{} Value", i + 1), MOST_NAME)?;
            let placeholder = name == "Title" && value == "Default Title";
            if value.is_empty() || placeholder {
                continue;
            }
            if name.is_empty() {
                return Err(format!(
                    "Option{0} Value is `{value}`, but Option{0} has no name",
                    i + 1
                ));
            }
            options.push((name.as_str(), value));
        }
        Ok(options)
    }

    /// Adds the image of `row`, if it has one that the product does not have yet.
    pub(super) fn add_image(&mut self, row: &Row<'_>) -> Result<(), String> {
        let Some(url) = url(row, "Image Src")? else {
            return Ok(());
        };
        if self.images.iter().any(|image| image.url == url) {
            return Ok(());
        }
        if self.images.len() == MOST_PARTS {
            return Err(format!("a product has at most {MOST_PARTS} images"));
        }
        let position = whole(row, "Image Position")?.unwrap_or(i32::MAX);
        self.images.push(DraftImage {
            position,
            url,
            alt: row.text("Image Alt Text", 2 * MOST_NAME)?.to_owned(),
        });
        Ok(())
    }

    /// Puts the images in order and numbers them without gaps.
    pub(super) fn finish(mut self) -> Self {
        self.images.sort_by_key(|image| image.position);
        for (position, image) in (1..).zip(&mut self.images) {
            image.position = position;
        }
        self
    }
}

/// The handle alone, or followed by the option values. No handle holds a slash, so no two products
/// can have variants of the same derived SKU.
fn derived_sku(handle: &str, options: &[(&str, &str)]) -> String {
    let mut sku = handle.to_owned();
    for (_, value) in options {
        sku.push('/');
        sku.extend(value.to_lowercase().chars().map(|c| match c {
            c if c.is_alphanumeric() || ".+".contains(c) => c,
            _ => '-',
        }));
    }
    sku
}

/// A text by which things are asked for.
fn key<'a>(column: &str, text: &'a str) -> Result<&'a str, String> {
    if text.len() > MOST_KEY {
        return Err(format!("{column} is longer than {MOST_KEY} bytes"));
    }
    if text.contains(char::is_control) {
        return Err(format!(
            "{column} holds a line break or another control character"
        ));
    }
    Ok(text)
}

fn tags(row: &Row<'_>) -> Result<Vec<String>, String> {
    let mut seen = HashSet::new();
    let tags: Vec<String> = row
        .get("Tags")
        .split(',')
        .map(str::trim)
        .filter(|tag| !tag.is_empty() && seen.insert(*tag))
        .map(str::to_owned)
        .collect();
    if tags.len() > MOST_TAGS {
        return Err(format!("Tags has more than {MOST_TAGS} tags"));
    }
    match tags.iter().find(|tag| tag.chars().count() > MOST_NAME) {
        Some(_) => Err(format!(
            "Tags has a tag of more than {MOST_NAME} characters"
        )),
        None => Ok(tags),
    }
}

/// Files without these columns list what is on sale.
fn published(row: &Row<'_>) -> Result<bool, String> {
    let published = match row.get("Published").to_ascii_lowercase().as_str() {
        "" | "true" => true,
        "false" => false,
        other => return Err(format!("Published is `{other}`: write true or false")),
    };
    match row.get("Status").to_ascii_lowercase().as_str() {
        "" | "active" => Ok(published),
        "draft" | "archived" | "unlisted" => Ok(false),
        other => Err(format!(
            "Status is `{other}`: write active, draft or archived"
        )),
    }
}

/// A whole number that is not negative; decimals are allowed as long as they are zeros.
fn whole(row: &Row<'_>, column: &str) -> Result<Option<i32>, String> {
    let text = row.get(column);
    if text.is_empty() {
        return Ok(None);
    }
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|digit| digit == b'0') => whole,
        _ => text,
    };
    match whole.parse::<i32>() {
        Ok(number) if number >= 0 => Ok(Some(number)),
        Ok(_) => Err(format!("{column} is {text}: it cannot be negative")),
        Err(_) => Err(format!(
            "{column} is `{text}`, which is not a whole number up to {}",
            i32::MAX
        )),
    }
}

/// An address that browsers load as an image and never run.
fn url(row: &Row<'_>, column: &str) -> Result<Option<String>, String> {
    let text = row.text(column, MOST_URL)?;
    if text.is_empty() {
        return Ok(None);
    }
    let web = ["http://", "https://"].iter().any(|scheme| {
        let start = text.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    if !web || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "{column} is `{text:.60}`: an address that begins with https:// is wanted"
        ));
    }
    Ok(Some(text.to_owned()))
}
