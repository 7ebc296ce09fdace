"""What scores are worth: measures with their intervals, and pictures of them."""
