"""What predict writes."""
