"""Pieces of an HTML page: tables, legends, panels. Text goes in as it is and comes out escaped."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from deferral.catalogue import Look

SHAPES = {  # of matplotlib's markers, around 0, 0
    "o": '<circle r="3.4"/>',
    "s": '<rect x="-3" y="-3" width="6" height="6"/>',
    "D": '<path d="M0-4 4 0 0 4-4 0z"/>',
    "^": '<path d="M0-3.8 3.8 3-3.8 3z"/>',
    "v": '<path d="M0 3.8 3.8-3-3.8-3z"/>',
    "P": '<path d="M-1.4-4h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z"/>',
    "X": '<path d="M-1.4-4h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z" '
    'transform="rotate(45)"/>',
}


@dataclass(frozen=True)
class Html:
    """Text that is HTML already; every other text is escaped."""

    text: str


Cell = str | Html


def html(text: Cell) -> str:
    return text.text if isinstance(text, Html) else escape(text)


def marked(text: str, css: str) -> Html:
    """Text in a class of the style sheet."""
    return Html(f'<span class="{css}">{escape(text)}</span>')


def paragraph(text: Cell, css: str = "") -> str:
    return f'<p class="{css}">{html(text)}</p>' if css else f"<p>{html(text)}</p>"


def table(
    head: Sequence[Cell],
    rows: Sequence[Sequence[Cell]],
    *,
    text_columns: Sequence[int] = (),
    row_class: Sequence[str] = (),
    css: str = "",
) -> str:
    """The first cell of a row is its heading; `text_columns` are set flush left and may wrap."""

    def line(cells: Sequence[Cell], tag: str, css: str = "") -> str:
        parts = []
        for i, cell in enumerate(cells):
            name = "th" if i == 0 else tag
            scope = f' scope="{"col" if tag == "th" else "row"}"' if name == "th" else ""
            kind = ' class="text"' if i in text_columns else ""
            parts.append(f"<{name}{scope}{kind}>{html(cell)}</{name}>")
        return f'<tr class="{css}">' * bool(css) + "<tr>" * (not css) + "".join(parts) + "</tr>"

    classes = list(row_class) or [""] * len(rows)
    body = "\n".join(line(row, "td", c) for row, c in zip(rows, classes, strict=True))
    start = f'<table class="{css}">' if css else "<table>"
    # A wide table scrolls by itself and can be reached by keyboard.
    return (
        f'<div class="scroll" tabindex="0">{start}<thead>{line(head, "th")}</thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def key(look: Look) -> Html:
    """A short stretch of a rule's line with its marker."""
    # matplotlib's dashes are in units of the line's width.
    lengths = " ".join(f"{x * look.width:.1f}" for x in look.dash)
    dash = f' stroke-dasharray="{lengths}"' if lengths else ""
    shape = f'<g transform="translate(17 6)">{SHAPES[look.marker]}</g>' if look.marker else ""
    return Html(
        '<svg class="key" viewBox="0 0 34 12" aria-hidden="true">'
        f'<g fill="{look.color}" stroke="{look.color}"><path d="M1 6h32" fill="none" '
        f'stroke-width="{look.width + 0.4:g}"{dash}/>{shape}</g></svg>'
    )


def with_key(look: Look | None, text: str) -> Html:
    """A rule's name behind its key; what stands around an equals sign stays together."""
    text = text.replace(" = ", "\u00a0=\u00a0")
    return Html((key(look).text if look else "") + escape(text))


def legend(entries: Sequence[tuple[Look, str]]) -> str:
    items = "".join(f"<li>{with_key(look, text).text}</li>" for look, text in entries)
    return f'<ul class="legend">{items}</ul>'


def figure(panels: Sequence[str], caption: Cell, entries: Sequence[tuple[Look, str]] = ()) -> str:
    """SVG panels beside each other where there is room, then legend and caption."""
    alone = " alone" if len(panels) == 1 else ""
    boxes = "".join(f'<div class="panel{alone}">{svg}</div>' for svg in panels)
    return (
        f'<figure><div class="panels">{boxes}</div>{legend(entries) if entries else ""}'
        f"<figcaption>{html(caption)}</figcaption></figure>"
    )


def bar(share: float | None, text: str) -> Html:
    """A bar of 0..1 with its number."""
    width = 0 if share is None else 8 * share
    return Html(f'<span class="bar" style="width:{width:.2f}rem"></span>{escape(text)}')


def definitions(entries: Sequence[tuple[str, Cell]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(t)}</dt><dd>{html(d)}</dd>" for t, d in entries) + "</dl>"


def picture(image: np.ndarray, alt: str) -> str:
    """An image uint8 [C, H, W], C = 1 or 3 (of others the first), as a PNG within the page."""
    pixels = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" width="80" height="80">'
