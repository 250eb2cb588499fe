"""What every load test needs: a running service, pictures, figures, tables and plots."""
