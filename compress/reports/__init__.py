"""What every report is drawn with: formats, tables, plots, the page."""
