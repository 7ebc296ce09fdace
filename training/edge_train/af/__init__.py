"""Fibrillation: two tasks (`rr`: from courses of intervals, `ten_seconds`: from strips of signal), and what their models are worth."""
