// What the theme leaves to do. Opened from a file, a page may not read another one: search then shows titles alone.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
