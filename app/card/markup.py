"""Plain text → HTML elements, escaped here and nowhere else.

Only this file makes `Html`, and it escapes every `str`, so the type checker finds a text that is not escaped. No
element carries a style or a script: the service's content security policy allows neither. Knows nothing of models.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NewType

Html = NewType("Html", str)


def page(title: str, root: str, styles: Sequence[str], parts: Iterable[Html]) -> Html:
    """A whole document. `root` is the relative address of the service's own, such as `../`."""
    sheets = "".join(f'  <link rel="stylesheet" href="{escape(root + style)}">\n' for style in styles)
    return Html(
        '<!doctype html>\n<html lang="en">\n<head>\n  <meta charset="utf-8">\n'
        '  <meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"  <title>{escape(title)}</title>\n{sheets}"
        f'  <link rel="icon" href="{escape(root)}page/icon.svg" type="image/svg+xml">\n'
        f'</head>\n<body>\n<main class="card">\n<h1>{escape(title)}</h1>\n{"".join(parts)}</main>\n</body>\n</html>\n'
    )


def section(title: str, *parts: Html | None) -> Html:
    """A part of the page with its heading; parts that are None are left out."""
    return Html(f"<section>\n<h2>{escape(title)}</h2>\n{''.join(part for part in parts if part)}</section>\n")


def paragraph(text: str) -> Html:
    """One paragraph."""
    return Html(f"<p>{escape(text)}</p>\n")


def bullets(items: Iterable[str], kind: str = "") -> Html:
    """A list, of a CSS class where one is named."""
    attribute = f' class="{escape(kind)}"' if kind else ""
    list_items = "".join(f"  <li>{escape(item)}</li>\n" for item in items)
    return Html(f"<ul{attribute}>\n{list_items}</ul>\n")


def links(label: str, targets: Iterable[tuple[str, str]]) -> Html:
    """A navigation, of (address, text) each."""
    items = "".join(f'  <li><a href="{escape(address)}">{escape(text)}</a></li>\n' for address, text in targets)
    return Html(f'<nav aria-label="{escape(label)}">\n<ul class="links">\n{items}</ul>\n</nav>\n')


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table whose first cell in every row names the row, in a box of its own that scrolls and takes the focus."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    return Html(
        f'<div class="box" role="region" tabindex="0" aria-label="{escape(caption)}">\n'
        f'<table class="figures">\n<caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n{_body(rows)}</table>\n</div>\n"
    )


def facts(caption: str, rows: Iterable[tuple[str, str]]) -> Html:
    """A table of names and values, which breaks its lines instead of scrolling."""
    return Html(f'<table class="facts">\n<caption>{escape(caption)}</caption>\n{_body(rows)}</table>\n')


def figure(address: str, alternative: str, caption: str) -> Html:
    """A picture that links to its full size."""
    return Html(
        f'<figure>\n<a href="{escape(address)}"><img src="{escape(address)}" alt="{escape(alternative)}" '
        f'loading="lazy"></a>\n<figcaption>{escape(caption)}</figcaption>\n</figure>\n'
    )


def _body(rows: Iterable[Sequence[str]]) -> str:
    written = "".join(_row(row) for row in rows)
    return f"<tbody>\n{written}</tbody>\n"


def _row(cells: Sequence[str]) -> str:
    name, *values = cells
    data = "".join(f"<td>{escape(value)}</td>" for value in values)
    return f'<tr><th scope="row">{escape(name)}</th>{data}</tr>\n'
