(()=>{var e=document.documentElement;e.classList.add("js");try{let t=localStorage.getItem("faultline.theme");(t==="dark"||t==="light")&&(e.dataset.theme=t)}catch{}})();
