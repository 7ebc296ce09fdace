"""The beat model ``ecg-beat-aami``: data, nets, the fit, and what it is worth (`beats.model` says why there are
several nets); and the task ``beats-187``, beats as the well-known CSV has them."""
