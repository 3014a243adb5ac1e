"""Reports as one HTML file that holds everything: styles and plots inside, no script, nothing fetched.

`html` makes the page out of headings, tables and cards, `svg` the plots; page.css is light and dark, wide and
narrow, screen and print.
"""
