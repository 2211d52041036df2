def log_model(recorder, run_id, weights):
    pass
