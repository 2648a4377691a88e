"""Query, visualise and compare what runs recorded."""
