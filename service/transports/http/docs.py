"""Holds the page at /docs: Swagger UI from a Python package, so that it needs no internet."""

from __future__ import annotations

from pathlib import Path

from swagger_ui_bundle import swagger_ui_path

STATIC_FOLDER = Path(swagger_ui_path)
"""The folder of Swagger UI's scripts and styles (Apache-2.0)."""
STATIC_FILES = ("favicon-32x32.png", "swagger-ui.css", "swagger-ui-bundle.js")

PAGE = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>ImageNet zoo server</title>
<link rel="icon" href="docs/static/favicon-32x32.png">
<link rel="stylesheet" href="docs/static/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/static/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", validatorUrl: null});</script>
</body>
</html>
"""
