"""Figures by matplotlib and Plotly, and HTML pages that are one file."""
