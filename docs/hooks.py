"""Puts the repository's own documents and pictures on the site, so that each is written once.

They keep their places, and the pages of docs/ lie beside them: a link that works on GitHub works on the site.
"""

from pathlib import Path

from mkdocs.structure.files import File, Files

TAKEN = ("*.md", "launch/README.md", "results/*")


def on_files(files: Files, config) -> Files:
    """Adds what lies outside of docs/."""
    root = Path(config.config_file_path).parent
    for path in sorted(path for pattern in TAKEN for path in root.glob(pattern)):
        files.append(File.generated(config, path.relative_to(root).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """Links between docs/ and the root, which are one folder on the site."""
    return markdown.replace("](../", "](").replace("](docs/", "](")
