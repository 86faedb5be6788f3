"""What people look at: matplotlib figures, Plotly figures, and HTML pages that are one file."""
