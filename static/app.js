// The start page: a grid of products, searched and paged through the API.
// Everything that comes from the API is set as text, never as markup.
"use strict";

const PAGE = 24;
const byId = (id) => document.getElementById(id);
const list = byId("products");
const more = byId("more");
const status = byId("status");
const dialog = byId("detail");

let next = null;
// The newest request; answers to older ones are dropped.
let current = 0;

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function money(minor, currency) {
  if (minor === null || minor === undefined) return "";
  const format = new Intl.NumberFormat(undefined, { style: "currency", currency });
  return format.format(minor / 10 ** format.resolvedOptions().maximumFractionDigits);
}

async function getJson(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.detail || body.title || `the shop answered ${response.status}`);
  return body;
}

function picture(product) {
  const box = element("span", "picture", (product.category || product.title).charAt(0));
  if (product.image && product.image.startsWith("https://")) {
    const image = element("img");
    image.alt = "";
    image.loading = "lazy";
    image.referrerPolicy = "no-referrer";
    image.addEventListener("load", () => box.replaceChildren(image));
    // Lazy images load only once they are in the page.
    image.addEventListener("error", () => image.remove());
    box.append(image);
    image.src = product.image;
  }
  return box;
}

function card(product) {
  const item = element("li");
  const button = element("button", "card");
  button.type = "button";
  const price = money(product.from_price_minor, product.currency);
  button.append(
    picture(product),
    element("span", "title", product.title),
    element("span", "vendor", [product.vendor, product.category].filter(Boolean).join(" · ")),
    element("span", "price", product.in_stock ? `from ${price}` : "sold out"),
  );
  button.addEventListener("click", () => show(product.handle));
  item.append(button);
  return item;
}

async function load(fresh) {
  const query = new URLSearchParams({ limit: PAGE });
  const words = byId("words").value.trim();
  const category = byId("category").value;
  if (words) query.set("q", words);
  if (category) query.set("category", category);
  if (!fresh && next) query.set("after", next);
  const request = ++current;
  more.disabled = true;
  try {
    const page = await getJson(`/api/products?${query}`);
    if (request !== current) return;
    if (fresh) list.replaceChildren();
    list.append(...page.items.map(card));
    next = page.next ?? null;
    more.hidden = next === null;
    const shown = list.childElementCount;
    status.textContent = shown ? `${shown} products${next ? ", and more" : ""}` : "Nothing found.";
  } catch (error) {
    if (request === current) status.textContent = `Products cannot be shown: ${error.message}`;
  } finally {
    more.disabled = false;
  }
}

async function show(handle) {
  try {
    const product = await getJson(`/api/products/${encodeURIComponent(handle)}`);
    byId("detail-title").textContent = product.title;
    byId("detail-vendor").textContent = [product.vendor, ...product.tags].filter(Boolean).join(" · ");
    byId("detail-description").textContent = product.description;
    byId("detail-variants").replaceChildren(...product.variants.map((variant) => {
      const row = element("tr");
      row.append(
        element("td", "", variant.title || "—"),
        element("td", "", variant.sku),
        element("td", "", money(variant.price_minor, variant.currency)),
        element("td", "", variant.stock),
      );
      return row;
    }));
    dialog.showModal();
  } catch (error) {
    status.textContent = `The product cannot be shown: ${error.message}`;
  }
}

async function loadCategories() {
  const names = await getJson("/api/categories");
  byId("category").append(...names.map((name) => {
    const option = element("option", "", name);
    option.value = name;
    return option;
  }));
}

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  load(true);
});
byId("category").addEventListener("change", () => load(true));
more.addEventListener("click", () => load(false));
// Without categories the page still searches.
loadCategories().catch(() => {});
load(true);
