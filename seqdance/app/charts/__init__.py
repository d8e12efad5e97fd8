"""Interactive figures of the page: arrays and tables in, a plotly figure out."""
