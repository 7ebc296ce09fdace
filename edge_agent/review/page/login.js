import { post } from "/static/api.js";

const status = document.getElementById("status");
document.getElementById("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await post("/login", { token: document.getElementById("token").value.trim() });
    location.assign("/");
  } catch (error) {
    status.textContent = error.message;
    status.className = "error";
  }
});
