"""One report written as self-contained HTML and as Markdown."""

import base64
import html
import re
from pathlib import Path
from typing import List, Sequence, Union

_FOLDER = 'report_files'
_LINK = re.compile(rf'\({_FOLDER}/(\d+)\.png\)')
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2em auto;
padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}
th,td{border:1px solid #ccc;padding:.3em .7em;text-align:right}
th:first-child,td:first-child{text-align:left}
th{background:#f3f3f3}
.grid{display:grid;gap:6px;margin:1em 0}
.grid figure{margin:0}.grid img{width:100%;image-rendering:auto}
figcaption{font-size:12px;color:#555;text-align:center}
.legend{font-size:13px}.legend span{margin-right:1em;white-space:nowrap}
.legend i{display:inline-block;width:.9em;height:.9em;margin-right:.3em}
.row{display:flex;flex-wrap:wrap;gap:10px}.row img{max-width:100%}
"""


class Report:
    """Collects text, tables and pictures; writes them in two forms.

    Args:
        title (str): Title of the report.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._html: List[str] = []
        self._markdown: List[str] = []
        self._images: List[bytes] = []

    def extend(self, other: 'Report') -> None:
        """Append the contents of another report, without its title."""
        shift = len(self._images)

        def renumber(match: re.Match) -> str:
            return f'({_FOLDER}/{int(match[1]) + shift:03d}.png)'

        self._html += other._html
        self._markdown += [
            _LINK.sub(renumber, text) for text in other._markdown
        ]
        self._images += other._images

    def heading(self, text: str) -> None:
        """Start a section."""
        self._html.append(f'<h2>{html.escape(text)}</h2>')
        self._markdown.append(f'## {text}')

    def text(self, text: str) -> None:
        """Add a paragraph of plain text."""
        self._html.append(f'<p>{html.escape(text)}</p>')
        self._markdown.append(text)

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """Add a table.

        Args:
            header (Sequence[str]): Column names.
            rows (Sequence): Cells; converted with ``str``.
        """

        def cells(values: Sequence[object], tag: str) -> str:
            return ''.join(
                f'<{tag}>{html.escape(str(v))}</{tag}>' for v in values
            )

        body = ''.join(f'<tr>{cells(row, "td")}</tr>' for row in rows)
        self._html.append(
            f'<table><tr>{cells(header, "th")}</tr>{body}</table>'
        )
        lines = ['| ' + ' | '.join(header) + ' |']
        lines.append('|' + '|'.join('---' for _ in header) + '|')
        lines += ['| ' + ' | '.join(map(str, row)) + ' |' for row in rows]
        self._markdown.append('\n'.join(lines))

    def legend(
        self, names: Sequence[str], colors: Sequence[Sequence[int]]
    ) -> None:
        """Say which colour stands for what.

        Args:
            names (Sequence[str]): What the colours stand for.
            colors (Sequence): RGB triples in [0, 255], one per name.
        """
        swatches = ''.join(
            f'<span><i style="background:rgb({r},{g},{b})"></i>'
            f'{html.escape(name)}</span>'
            for name, (r, g, b) in zip(names, colors)
        )
        self._html.append(f'<p class="legend">{swatches}</p>')
        self._markdown.append(
            ', '.join(
                f'{name} #{r:02x}{g:02x}{b:02x}'
                for name, (r, g, b) in zip(names, colors)
            )
        )

    def _image(self, png: bytes, caption: str) -> str:
        """Keep a picture; returns its HTML."""
        self._images.append(png)
        data = base64.b64encode(png).decode()
        alt = html.escape(caption)
        return f'<img alt="{alt}" src="data:image/png;base64,{data}">'

    def images(self, pngs: Sequence[bytes], captions: Sequence[str]) -> None:
        """Add pictures beside each other.

        Args:
            pngs (Sequence[bytes]): PNG files.
            captions (Sequence[str]): What each shows.
        """
        tags, links = [], []
        for png, caption in zip(pngs, captions):
            tags.append(self._image(png, caption))
            links.append(self._link(caption))
        self._html.append(f'<div class="row">{"".join(tags)}</div>')
        self._markdown.append(' '.join(links))

    def _link(self, caption: str) -> str:
        return f'![{caption}]({_FOLDER}/{len(self._images):03d}.png)'

    def grid(
        self, header: Sequence[str], rows: Sequence[Sequence[bytes]]
    ) -> None:
        """Add a grid of pictures with a caption over each column.

        Args:
            header (Sequence[str]): What each column shows.
            rows (Sequence): PNG files, as many per row as columns.
        """
        figures = [
            f'<figcaption>{html.escape(name)}</figcaption>' for name in header
        ]
        lines = ['| ' + ' | '.join(header) + ' |']
        lines.append('|' + '|'.join('---' for _ in header) + '|')
        for row in rows:
            links = []
            for name, png in zip(header, row):
                tag = self._image(png, name)
                figures.append(f'<figure>{tag}</figure>')
                links.append(self._link(name))
            lines.append('| ' + ' | '.join(links) + ' |')
        columns = f'grid-template-columns:repeat({len(header)},1fr)'
        self._html.append(
            f'<div class="grid" style="{columns}">{"".join(figures)}</div>'
        )
        self._markdown.append('\n'.join(lines))

    def write(self, folder: Union[str, Path]) -> Path:
        """Write ``report.html``, ``report.md`` and ``report_files/``.

        Args:
            folder (str or Path): Where to.

        Returns:
            Path: The HTML file; it needs no other file.
        """
        folder = Path(folder)
        files = folder / _FOLDER
        files.mkdir(parents=True, exist_ok=True)
        for old in files.glob('*.png'):
            old.unlink()
        for number, png in enumerate(self._images, 1):
            (files / f'{number:03d}.png').write_bytes(png)
        title = html.escape(self.title)
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<title>{title}</title><style>{_STYLE}</style></head>'
            f'<body><h1>{title}</h1>{"".join(self._html)}</body></html>'
        )
        target = folder / 'report.html'
        target.write_text(page, encoding='utf-8')
        text = '\n\n'.join([f'# {self.title}', *self._markdown])
        (folder / 'report.md').write_text(text + '\n', encoding='utf-8')
        return target
