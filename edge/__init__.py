"""The application: measures how fast a street is driven and tells the city only anonymised aggregates."""
