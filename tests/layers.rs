//! The architecture, held by reading the source: who may import whom, and what each layer may not
//! know. The map is in `src/lib.rs`, the reasons are in `docs/architecture.md`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// From the bottom up. A module imports modules of lower layers.
const LAYERS: [&[&str]; 9] = [
    &["config", "shutdown"],
    &["db", "connections", "brake"],
    &["store"],
    &["migration"],
    &["watch", "retention"],
    &["app"],
    &["http", "demo"],
    &["cli"],
    &["main"],
];

/// Imports of lower layers that are refused all the same.
const SEPARATE: [(&str, &str, &str); 1] = [(
    "migration",
    "store",
    "the engine works on any table and knows nothing of the shop",
)];

/// Where a crate may not be known: files whose path begins so, the crates, and why.
const UNKNOWN: [(&str, &[&str], &str); 4] = [
    (
        "http/",
        &["sqlx"],
        "handlers make one domain call; SQL is in `store` and `migration`",
    ),
    (
        "store/",
        &["axum", "http", "hyper", "tower", "tower_http"],
        "the domain does not know how it is reached",
    ),
    (
        "crates/pressure/",
        &["sqlx", "axum", "http", "hyper", "tower", "tower_http"],
        "readings are plain numbers, wherever they come from",
    ),
    (
        "migration/",
        &["axum", "http", "hyper", "tower", "tower_http"],
        "the engine runs without a service, too",
    ),
];

/// All that the controller may import: a decision is a function of what it is given.
const PACE: &str = "crates/pressure/src/pace.rs";
const PACE_MAY_IMPORT: [&str; 6] = [
    "crate::signal",
    // Carried along for whoever asks; nothing follows from it.
    "crate::cost::Cost",
    "crate::rules::Cap",
    "crate::settings::PaceSettings",
    "std",
    "serde",
];

/// Files in which time is a parameter. In `pressure` clippy holds it for the whole crate.
const WITHOUT_CLOCK: [&str; 16] = [
    "brake/attempts.rs",
    "migration/turns.rs",
    "watch/escalation.rs",
    "watch/escalation/history.rs",
    "watch/alerts/anomaly.rs",
    "watch/alerts/baseline.rs",
    "watch/alerts/burn.rs",
    "watch/alerts/calendar.rs",
    "watch/alerts/evaluator.rs",
    "watch/alerts/firing.rs",
    "watch/alerts/reading.rs",
    "watch/alerts/replay.rs",
    "watch/alerts/series.rs",
    "watch/alerts/shift.rs",
    "watch/alerts/span.rs",
    "watch/alerts/track.rs",
];
const CLOCKS: [&str; 5] = [
    "Instant::now",
    "SystemTime::now",
    "Utc::now",
    "Local::now",
    ".elapsed",
];

#[test]
fn imports_go_downwards_only() {
    refuse_all(|file, import| {
        let [root, module, ..] = import.segments() else {
            return None;
        };
        if root != "crate" || *module == file.module {
            return None;
        }
        // Names that are no modules, such as a macro at the root, have no layer.
        let to = layer(module)?;
        if file.is_of_crate() {
            return None;
        }
        let from = layer(&file.module)
            .unwrap_or_else(|| panic!("{} has no layer in tests/layers.rs", file.path));
        let pair = (file.module.as_str(), module.as_str());
        if let Some((_, _, why)) = SEPARATE.iter().find(|(a, b, _)| (*a, *b) == pair) {
            return Some(format!("`{}` never imports `{module}`: {why}", file.module));
        }
        (to >= from).then(|| {
            format!(
                "`{module}` is not below `{}`; the map is in src/lib.rs",
                file.module
            )
        })
    });
}

/// Error types that wrap a database error say it in the one text that people are given; sqlx's own
/// ends with a line of the server's source code.
#[test]
fn database_errors_are_told_in_one_text() {
    let mut found = Vec::new();
    for path in paths() {
        let mut told = Told::default();
        told.visit_file(&syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap());
        let named = told.found.into_iter();
        found.extend(named.map(|name| format!("{}: {name}", path.display())));
    }
    assert!(
        found.is_empty(),
        "use pool::describe or pool::summarize: {found:#?}"
    );
}

/// Variants that hold a database error and print it themselves.
#[derive(Default)]
struct Told {
    found: Vec<String>,
}

impl<'ast> Visit<'ast> for Told {
    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        let text = |tokens: TokenStream| tokens.to_string().replace(' ', "");
        let holds = variant.fields.iter().any(|field| match &field.ty {
            syn::Type::Path(path) => {
                let names = path.path.segments.iter().map(|s| s.ident.to_string());
                names.collect::<Vec<_>>() == ["sqlx", "Error"]
            }
            _ => false,
        });
        let errors = variant
            .attrs
            .iter()
            .filter(|attr| attr.path().is_ident("error"));
        let shown = errors.filter_map(|attr| attr.meta.require_list().ok());
        let shown: Vec<_> = shown.map(|list| text(list.tokens.clone())).collect();
        let is_told = |shown: &String| shown.contains("describe(") || shown.contains("summarize(");
        if holds && !shown.is_empty() && !shown.iter().all(is_told) {
            self.found.push(variant.ident.to_string());
        }
    }
}

#[test]
fn every_module_has_a_layer() {
    let root = source().join("lib.rs");
    let root = syn::parse_file(&fs::read_to_string(root).unwrap()).unwrap();
    let modules = root.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) => Some(module.ident.to_string()),
        _ => None,
    });
    let homeless: Vec<_> = modules.filter(|name| layer(name).is_none()).collect();
    assert_eq!(
        homeless,
        [] as [&str; 0],
        "give them a layer in tests/layers.rs"
    );
}

#[test]
fn a_layer_does_not_know_the_tools_of_another() {
    refuse_all(|file, import| {
        let root = import.segments().first()?;
        UNKNOWN
            .iter()
            .filter(|(place, _, _)| file.path.starts_with(place))
            .find(|(_, crates, _)| crates.contains(&root.as_str()))
            .map(|(place, _, why)| format!("`{root}` is unknown in {place}: {why}"))
    });
}

#[test]
fn the_pace_depends_on_its_settings_and_signals_alone() {
    refuse_all(|file, import| {
        if file.path != PACE || !import.is_use {
            return None;
        }
        let allowed = PACE_MAY_IMPORT
            .iter()
            .any(|allowed| import.is_within(allowed));
        (!allowed).then(|| format!("the pace imports only {}", PACE_MAY_IMPORT.join(", ")))
    });
    refuse_all(|file, import| {
        let inline = file.path == PACE && !import.is_use && import.segments()[0] == "crate";
        inline.then(|| "the pace names what it needs in its `use` lines".to_owned())
    });
}

#[test]
fn time_is_a_parameter_where_things_are_decided() {
    let mut looked_at = 0;
    refuse_all(|file, import| {
        if !WITHOUT_CLOCK.contains(&file.path.as_str()) {
            return None;
        }
        looked_at += 1;
        let clock = CLOCKS.iter().find(|clock| import.path.ends_with(*clock))?;
        Some(format!(
            "`{clock}` reads a clock; take the time as a parameter"
        ))
    });
    assert!(looked_at > 0, "the files have moved; follow them here");
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source() -> PathBuf {
    root().join("src")
}

/// The files of the shop and of the crates beside it.
fn paths() -> Vec<PathBuf> {
    let mut paths = Vec::new();
    collect(&source(), &mut paths);
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        collect(&entry.unwrap().path().join("src"), &mut paths);
    }
    paths
}

struct SourceFile {
    /// Below `src`, for the crates from the root of the workspace.
    path: String,
    /// The module of the crate's root that it belongs to.
    module: String,
    imports: Vec<Import>,
}

impl SourceFile {
    fn is_of_crate(&self) -> bool {
        self.path.starts_with("crates/")
    }
}

/// A path that a file names, in a `use` or anywhere else.
struct Import {
    path: String,
    segments: Vec<String>,
    is_use: bool,
}

impl Import {
    fn segments(&self) -> &[String] {
        &self.segments
    }

    fn is_within(&self, prefix: &str) -> bool {
        self.path == prefix || self.path.starts_with(&format!("{prefix}::"))
    }
}

/// Fails with every import of the source that `rule` refuses, each with its file and the reason.
fn refuse_all(mut rule: impl FnMut(&SourceFile, &Import) -> Option<String>) {
    let mut refused = String::new();
    let files = read_all();
    assert!(files.len() > 50, "the source was not found");
    for file in &files {
        for import in &file.imports {
            if let Some(why) = rule(file, import) {
                writeln!(refused, "{}: {}: {why}", file.path, import.path).unwrap();
            }
        }
    }
    assert!(refused.is_empty(), "\n{refused}");
}

fn read_all() -> Vec<SourceFile> {
    paths().iter().map(|path| read(path)).collect()
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    paths.sort();
}

fn read(path: &Path) -> SourceFile {
    let below = path.strip_prefix(source()).ok();
    let of_crate = path.strip_prefix(root()).unwrap();
    let shown = below.unwrap_or(of_crate).to_str().unwrap().to_owned();
    // crates/NAME/src/…
    let below = below.map_or_else(|| of_crate.iter().skip(3).collect(), Path::to_owned);
    let below = below.with_extension("");
    let mut module: Vec<String> = below
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    let is_root = ["lib", "main"].contains(&module[0].as_str());
    let top = module[0].clone();
    if is_root || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    let text = fs::read_to_string(path).unwrap();
    let mut finder = Finder {
        module,
        imports: Vec::new(),
    };
    let parsed = syn::parse_file(&text);
    finder.visit_file(&parsed.unwrap_or_else(|err| panic!("{}: {err}", path.display())));
    SourceFile {
        path: shown,
        module: top,
        imports: finder.imports,
    }
}

/// Collects the paths of a file, except those of its unit tests.
struct Finder {
    module: Vec<String>,
    imports: Vec<Import>,
}

impl Finder {
    /// Adds a path as seen from the root: `super` and `self` are followed, and the binary's name for
    /// the library is `crate`.
    fn add(&mut self, segments: &[String], is_use: bool) {
        let Some((first, mut rest)) = segments.split_first() else {
            return;
        };
        let mut absolute = match first.as_str() {
            "crate" | "evenkeel" => vec!["crate".to_owned()],
            "self" | "super" => {
                let mut at = self.module.clone();
                if first == "super" {
                    at.pop();
                }
                while let Some((next, after)) = rest.split_first()
                    && next == "super"
                {
                    at.pop();
                    rest = after;
                }
                [vec!["crate".to_owned()], at].concat()
            }
            other => vec![other.to_owned()],
        };
        absolute.extend_from_slice(rest);
        self.imports.push(Import {
            path: absolute.join("::"),
            segments: absolute,
            is_use,
        });
    }

    fn add_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) if name.ident == "self" => self.add(before, true),
            syn::UseTree::Name(name) => self.add(&with(&name.ident), true),
            syn::UseTree::Rename(rename) if rename.ident == "self" => self.add(before, true),
            syn::UseTree::Rename(rename) => self.add(&with(&rename.ident), true),
            syn::UseTree::Glob(_) => self.add(before, true),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(before, tree);
                }
            }
        }
    }

    /// What a macro is given is not parsed; the paths in it are found as tokens.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_of_path(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Group(group) => {
                    self.end_of_path(&mut path);
                    self.add_tokens(group.stream());
                    colons = 0;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.end_of_path(&mut path);
                    colons = 0;
                }
            }
        }
        self.end_of_path(&mut path);
    }

    fn end_of_path(&mut self, path: &mut Vec<String>) {
        if path.len() > 1 {
            self.add(path, false);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        let segments: Vec<String> = segments.collect();
        if segments.len() > 1 {
            self.add(&segments, false);
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.imports.push(Import {
            path: format!(".{}", call.method),
            segments: vec![format!(".{}", call.method)],
            is_use: false,
        });
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.visit_path(&mac.path);
        self.add_tokens(mac.tokens.clone());
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attr| {
            attr.path().is_ident("cfg")
                && attr
                    .parse_args::<syn::Path>()
                    .is_ok_and(|cfg| cfg.is_ident("test"))
        });
        if is_test {
            return;
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }
}
