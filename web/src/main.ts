// Where the page begins.
import { mount } from "svelte";
import App from "./App.svelte";
import "./state/theme.svelte";
import "./styles/tokens.css";
import "./styles/base.css";

const target = document.getElementById("app");
if (target === null) throw new Error("index.html has no #app");
target.replaceChildren();
mount(App, { target });
