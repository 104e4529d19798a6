//! The start page and its files.

use reqwest::Method;

use crate::support::TestApp;
use crate::support::app::send;

#[tokio::test]
async fn the_start_page_and_its_files_come_with_their_types_and_a_strict_policy() {
    let shop = TestApp::start().await;
    for (path, kind, content) in [
        ("/", "text/html; charset=utf-8", "<title>Evenkeel</title>"),
        ("/static/app.css", "text/css; charset=utf-8", "color-scheme"),
        (
            "/static/app.js",
            "text/javascript; charset=utf-8",
            "textContent",
        ),
        ("/static/icon.svg", "image/svg+xml", "<svg"),
    ] {
        let answer = shop.get(path).await.expect(200);
        assert_eq!(answer.header("content-type"), kind, "{path}");
        assert!(answer.text.contains(content), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    for path in [
        "/static/",
        "/static/nothing.js",
        "/static/../Cargo.toml",
        "/static/%2e%2e/Cargo.toml",
    ] {
        shop.get(path).await.expect(404);
    }
}

#[tokio::test]
async fn pages_hold_nothing_that_the_policy_forbids() {
    let shop = TestApp::start().await;
    let page = shop.get("/").await.expect(200).text;
    for inline in [
        "<style",
        "style=",
        "onclick=",
        "onload=",
        "javascript:",
        "http://",
        "https://",
    ] {
        assert!(!page.contains(inline), "{inline}");
    }
    assert_eq!(
        page.matches("<script").count(),
        page.matches("<script src=\"/static/").count()
    );
    let script = shop.get("/static/app.js").await.expect(200).text;
    for markup in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!script.contains(markup), "{markup}");
    }
}

#[tokio::test]
async fn a_browser_that_has_the_file_is_told_so() {
    let shop = TestApp::start().await;
    let etag = shop
        .get("/static/app.css")
        .await
        .expect(200)
        .header("etag")
        .to_owned();
    for (tags, status) in [
        (etag.clone(), 304),
        (format!("\"x\", {etag}"), 304),
        (etag.replace("W/", ""), 304),
        ("\"x\"".to_owned(), 200),
    ] {
        let request = shop.request(Method::GET, "/static/app.css");
        let answer = send(request.header("if-none-match", tags))
            .await
            .expect(status);
        assert_eq!(answer.text.is_empty(), status == 304);
    }
}
